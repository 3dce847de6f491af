"""A run folder is held by one process, and its record is read with care."""

import errno
import os
from pathlib import Path

import pytest

from tireid.runs.folder import (
    LATEST,
    claim,
    finished_metrics,
    is_unfinished,
    link_latest,
    named_run,
)
from tireid.runs.weights import find_run, find_saved


def test_a_folder_is_made_and_held_by_one(tmp_path):
    folder = tmp_path / "new" / "run"
    with claim(folder) as free:
        assert free
        with claim(folder) as free_too:
            assert not free_too
        with claim(folder, ".other_lock") as other:
            assert other
    with claim(folder) as free:
        assert free


def test_a_file_system_without_locks_is_told_as_what_it_means(tmp_path, monkeypatch):
    def no_locks(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", no_locks)
    with (
        pytest.warns(UserWarning, match="has no locks, .* start only one"),
        claim(tmp_path) as free,
    ):
        assert free


def test_a_run_is_unfinished_from_its_config_to_its_metrics(tmp_path):
    assert not is_unfinished(tmp_path)
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    assert is_unfinished(tmp_path)
    assert finished_metrics(tmp_path, {"seed": 1}) is None
    (tmp_path / "metrics.json").write_text('{"finished": true, "metrics": {"a": 1.5, "b": null}}')
    assert not is_unfinished(tmp_path)
    assert finished_metrics(tmp_path, {"seed": 1}) == {"a": 1.5}
    with pytest.raises(ValueError, match="a complete one with seed=1 instead of 2"):
        finished_metrics(tmp_path, {"seed": 2})


@pytest.mark.parametrize("text", ["", "[1]", "{"])
@pytest.mark.parametrize("read", [is_unfinished, lambda folder: finished_metrics(folder, {})])
def test_a_damaged_record_is_named(tmp_path, text, read):
    (tmp_path / "config.yaml").touch()
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.json: expected a run's record"):
        read(tmp_path)


def test_latest_leads_to_the_newest_run_that_is_named_by_the_time(tmp_path):
    first, second = (tmp_path / f"2026-01-0{day}_10-00-00-000000" for day in (1, 2))
    for folder in (first, second, tmp_path / "named"):
        folder.mkdir()
        link_latest(folder)
    assert (tmp_path / LATEST).resolve() == second
    link_latest(first)
    assert (tmp_path / LATEST).resolve() == first
    assert {path.name for path in tmp_path.iterdir()} == {first.name, second.name, "named", LATEST}


def test_a_folder_called_latest_is_left_alone(tmp_path):
    (tmp_path / LATEST).mkdir()
    (folder := tmp_path / "2026-01-01_10-00-00-000000").mkdir()
    link_latest(folder)
    assert not (tmp_path / LATEST).is_symlink()


def test_latest_is_the_newest_run_wherever_a_run_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"latest: expected a run below runs/, got none"):
        named_run("latest")
    for age, name in enumerate(("a/new", "a/new/teacher", "b/old")):
        folder = tmp_path / "runs" / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "config.yaml").write_text("")
        (folder / "checkpoints" / "last.ckpt").touch()
        os.utime(folder / "checkpoints" / "last.ckpt", (0, 1_000_000 - 100 * age))
    found = Path("runs/a/new")
    assert find_run("latest") == find_saved("latest") == (found, found / "checkpoints/last.ckpt")
    assert f"latest: {found}" in capsys.readouterr().err
    (tmp_path / "latest").mkdir()
    assert named_run("latest") == Path("latest")  # a folder that is called so
