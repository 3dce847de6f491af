"""Files that may be anybody's: nothing hangs, everything that is refused is named."""

import json
import os
import time

import pytest

from tireid.runs import foreign
from tireid.runs.foreign import check, read_json, read_lines, read_text, read_yaml, regular_file
from tireid.runs.log import read_columns
from tireid.runs.record import read_record
from tireid.runs.results import read_csv, read_runs
from tireid.runs.settings import read_config, read_overrides

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]"
    for before, name in zip("abcdefghij", "bcdefghijk", strict=True)
)


def made(kind, path):
    """Make something at a path that is no regular file inside its folder."""
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a circle":
        path.symlink_to(path)
    else:
        outside = path.parent.parent / "outside"
        outside.write_text("{}")
        path.symlink_to(outside)


KINDS = {
    "a pipe": "got a pipe, a socket or a device",
    "a folder": "got a folder",
    "a device": "got a pipe, a socket or a device",
    "a circle": "got Too many levels of symbolic links",
    "a link": "expected a file inside .*, got a link to .*outside",
}


@pytest.mark.parametrize("kind", KINDS)
def test_only_regular_files_inside_are_read(tmp_path, kind):
    path = tmp_path / "run" / "metrics.json"
    path.parent.mkdir()
    made(kind, path)
    message = rf"metrics\.json: .*{KINDS[kind]}"
    with pytest.raises(ValueError, match=message):
        regular_file(path, inside=path.parent)
    with pytest.raises(ValueError, match=message):
        read_record(path.parent)


def test_a_line_without_end_is_refused_before_it_is_held(tmp_path):
    file = tmp_path / "list.csv"
    file.write_text(f"path\r\n{'x' * foreign.LONGEST_LINE}")
    assert [len(line) for line in read_lines(file)] == [6, foreign.LONGEST_LINE]
    os.truncate(file, 2**40)
    with pytest.raises(ValueError, match="expected lines of at most"):
        list(read_lines(file))


@pytest.mark.parametrize("kind", ["a pipe", "a device"])
@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "results.csv", "failure.json"])
def test_no_reader_waits_for_a_pipe(tmp_path, kind, name):
    readers = {
        "config.yaml": read_config,
        "metrics.csv": lambda folder: read_columns(folder / "metrics.csv"),
        "results.csv": lambda folder: read_csv(folder / "results.csv"),
        "failure.json": lambda folder: read_record(folder, "failure.json"),
    }
    made(kind, tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name}: expected a regular file, got a pipe"):
        readers[name](tmp_path)


def test_a_link_inside_is_followed_and_no_file_is_named(tmp_path):
    (tmp_path / "real.json").write_text("{}")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    assert read_json(tmp_path / "link.json", "a record", inside=tmp_path) == {}
    with pytest.raises(FileNotFoundError, match=r"none: expected a file, got no such file"):
        read_text(tmp_path / "none")


def test_size_and_encoding_are_bounded(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"a: expected text in UTF-8, got"):
        read_text(tmp_path / "a")
    with pytest.raises(ValueError, match=r"a: expected at most 0 MiB, got 0"):
        read_text(tmp_path / "a", largest=1)
    monkeypatch.setattr(foreign, "LARGEST_YAML", 1)
    with pytest.raises(ValueError, match="expected at most"):
        read_yaml(tmp_path / "a", "a config")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "an alias"),
        ("a: &a\n  b: *a", "an alias"),
        ("[" * 100, "more than 64 levels of nesting"),
        ("[" * 5000, "levels of nesting"),
        ("a: " + "9" * 5000, "Exceeds the limit"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
    ],
)
def test_a_config_that_stands_for_too_much_is_refused_at_once(tmp_path, text, message):
    (tmp_path / "config.yaml").write_text(text)
    began = time.monotonic()
    with pytest.raises(ValueError, match=rf"config\.yaml: expected a config, got .*{message}"):
        read_config(tmp_path)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a run's record in JSON, got an empty file"),
        ("[1]", "expected a run's record, got a list"),
        ("[" * 100_000, "too many levels of nesting"),
        ('{"a": ' + "[" * 70 + "]" * 70 + "}", "more than 64 levels of nesting"),
        ('{"seed": ' + "9" * 5000 + "}", "Exceeds the limit"),
        ('{"tested_checkpoint": 5}', r"tested_checkpoint: expected text or null, got 5 \(int\)"),
        ('{"data_sha256": null}', "data_sha256: expected a mapping, got None"),
        ('{"data_sha256": {"test": [1]}}', r"data_sha256\.test: expected text, got \[1\]"),
        ('{"versions": ["a"]}', "versions: expected a mapping"),
        ('{"metrics": {"test/R1": "x"}}', r"metrics\.test/R1: expected a finite number or null"),
        ('{"metrics": {"test/R1": NaN}}', r"metrics\.test/R1: expected a finite number"),
        ('{"metrics": {"test/R1": 1e999}}', r"metrics\.test/R1: expected a finite number"),
        ('{"metrics": {"test/R1": true}}', r"metrics\.test/R1: expected a finite number"),
        ('{"steps": 1.5}', r"steps: expected a whole number, got 1\.5"),
        ('{"seed": ' + "9" * 40 + "}", "seed: expected a whole number"),
        ('{"validations": [1]}', r"validations\[0\]: expected a mapping, got 1"),
        ('{"teacher": {"run": 7}}', r"teacher\.run: expected text, got 7"),
    ],
)
def test_broken_records_are_named_with_the_field(tmp_path, text, message):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ValueError, match=rf"metrics\.json: .*{message}"):
        read_record(tmp_path)


def test_what_is_not_taken_is_not_looked_at(tmp_path):
    record = {"metrics": {"a": None, "b": 1}, "mine": [[1], {"a": "b"}], "seed": None}
    (tmp_path / "metrics.json").write_text(json.dumps(record))
    assert read_record(tmp_path) == record


def test_complete_mappings_and_what_may_be_null(tmp_path):
    kinds = {"a": {"b": int}, "c": ({str: int},)}
    good = {"a": {"b": 1}, "c": None}
    assert check(good, kinds, tmp_path, complete=True) == good
    for bad, message in (
        ({"a": {}, "c": None}, r"a\.b: expected a value, got none"),
        ({"c": {}}, r"a\.b: expected a value, got none"),
        ({"a": {"b": 1}, "c": 3}, "c: expected a mapping, got 3"),
        ({"a": {"b": 1}, "c": {5: 1}}, r"name c\.5: expected text, got 5"),
    ):
        with pytest.raises(ValueError, match=message):
            check(bad, kinds, tmp_path, complete=True)


def test_overrides_are_text_and_never_resolved(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    (tmp_path / ".hydra").mkdir()
    file = tmp_path / ".hydra" / "overrides.yaml"
    file.write_text("- seed=${oc.env:SECRET}\n- hydra.run.dir=x\n")
    assert read_overrides(tmp_path) == ["seed=${oc.env:SECRET}"]
    for text in ("{", "5", "- [1]", BOMB):
        file.write_text(text)
        assert read_overrides(tmp_path) == []


@pytest.mark.parametrize("text", ["[[1]]", "{}", "[1]", ""])
def test_jobs_of_a_sweep_are_lists_of_text(tmp_path, text):
    (tmp_path / "jobs.json").write_text(text)
    with pytest.raises(ValueError, match=r"jobs\.json: "):
        read_runs(tmp_path)
