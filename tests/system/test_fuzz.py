"""Damaged files are accepted rightly or refused in one message; the fuzzer sees where not."""

import contextlib
import filecmp
import importlib
import sqlite3
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

FUZZ = Path(__file__).resolve().parent / "fuzz"
WATCHED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from watch import watch
inside, outside = Path(sys.argv[2], "inside"), Path(sys.argv[2], "outside")
noticed = []
watch(inside, outside, noticed)
exec(sys.argv[3])
print(*noticed, sep="\\n")
"""


@pytest.fixture
def fuzz(monkeypatch):
    """Return a function from the name of a module of the fuzzer to it."""
    monkeypatch.syspath_prepend(str(FUZZ))
    return importlib.import_module


@pytest.fixture
def ended(fuzz, tmp_path):
    """Return a function to what the fuzzer says of a case that ended in some way."""

    def judged(output="", killed="", signal=0, done=True, **facts):
        facts = {
            "exit": 0,
            "expected": "any",
            "noticed": [],
            "fuzzer_error": "",
            "done": done,
        } | facts
        outcome = fuzz("pool").Outcome("0:0", tmp_path, facts, output, killed, signal)
        return fuzz("verdict").verdict(outcome)

    return judged


@pytest.mark.slow
def test_a_few_cases_of_each_kind_are_as_they_should_be(tmp_path):
    command = [sys.executable, str(FUZZ), "--cases", "60", "--seed", "7", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 of 60 cases as they should be" in done.stdout


def test_one_clear_message_and_an_acceptance_are_right(ended):
    assert ended() == ""
    assert ended("error: config.yaml: expected a config\n", exit=1) == ""
    assert ended(exit=0, expected="accepted") == ""
    assert ended("error: no image\n", exit=1, expected="refused") == ""


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"killed": "more than 60 s"}, "takes more than 60 s"),
        ({"signal": 6}, "dies of SIGABRT"),
        ({"done": False}, "ends the process"),
        ({"noticed": ["reads /etc/passwd"]}, "reads /etc/passwd"),
        (
            {"output": "Traceback (most recent call last)\nValueError: a", "exit": 1},
            "traceback: ValueError: a",
        ),
        ({"output": "thread panicked at 'a'", "exit": 1}, "traceback: "),
        ({"exit": 1}, "exit code 1 without a word"),
        ({"output": "error: a\nerror: b\n", "exit": 1}, "more than one message"),
        ({"output": f"error: {'a' * 5000}", "exit": 1}, "a message of 5,000 characters"),
        ({"output": "error: \x1b[2J", "exit": 1}, "prints the control character '\\x1b'"),
        ({"expected": "refused"}, "accepted, expected a refusal"),
        (
            {"output": "error: a", "exit": 1, "expected": "accepted"},
            "refused, expected it to be accepted: a",
        ),
    ],
)
def test_what_is_wrong_is_named(ended, how, said):
    assert ended(**how) == said


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("(inside / 'a').write_text('a')", ""),
        ("(outside / 'a').read_text()", "reads "),
        ("(inside / 'link').symlink_to(outside / 'a'); (inside / 'link').read_text()", "reads "),
        ("(outside / 'b').write_text('a')", "writes "),
        (
            "(inside / 'a').write_text(''); (inside / 'a').rename(outside / 'b')",
            "writes (os.rename) ",
        ),
        ("os.system('true')", "starts or connects: os.system"),
        ("import pickle; pickle.loads(b'cos\\nsystem\\n.')", "unpickles os.system"),
    ],
)
def test_leaving_the_folder_is_noticed(tmp_path, code, said):
    for name in ("inside", "outside"):
        (tmp_path / name).mkdir()
    (tmp_path / "outside" / "a").write_text("a")
    command = [sys.executable, "-c", WATCHED, str(FUZZ), str(tmp_path), code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip().startswith(said)
    assert bool(done.stdout.strip()) == bool(said)


def test_a_number_draws_the_same_damage_again(fuzz, tmp_path):
    samples, files = fuzz("samples"), fuzz("files")
    said = []
    for name in ("one", "two"):
        samples.write_data(tmp_path / name, "rstpreid")
        file = tmp_path / name / "data_captions.json"
        said.append(files.mutate_text_file(file, Random("3:14"), tmp_path))  # noqa: S311
    assert said[0] == said[1]
    _, different, odd = filecmp.cmpfiles(
        tmp_path / "one", tmp_path / "two", ["data_captions.json"], shallow=False
    )
    assert not different
    assert not odd


def test_a_database_is_damaged_in_a_value_or_a_table(fuzz, tmp_path):
    said, changed = set(), 0
    for number in range(30):
        file = tmp_path / f"{number}.sqlite"
        with contextlib.closing(sqlite3.connect(file)) as database, database:
            database.execute("CREATE TABLE images (id INTEGER PRIMARY KEY, path TEXT)")
            database.execute("INSERT INTO images VALUES (1, 'a')")
        before = file.read_bytes()
        what, expected = fuzz("databases").mutate_database(file, Random(number))  # noqa: S311
        assert expected == "any"
        said.add(what.split(":")[1].split("=")[0])
        changed += file.read_bytes() != before
    assert changed > 10  # others are refused, or draw the value that is there
    assert len(said) > 5
