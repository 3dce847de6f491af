"""Locks between processes, folders that are built once, and atomic files."""

import errno
import json
import math
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tireid import files
from tireid.files import build_once, folder_lock, resolve_cache_dir, write_json, write_text


def never():
    pytest.fail("nobody else holds the lock")


def no_locks(*_, **__):
    raise OSError(errno.ENOLCK, "No locks available")


def hold(path: Path) -> None:
    with folder_lock(path, on_wait=never):
        path.with_suffix(".held").touch()
        time.sleep(60)


def fill(folder: Path) -> None:
    (folder / "a").write_text("whole")


class TestLock:
    def test_it_is_held_in_the_block_and_free_after_it(self, tmp_path):
        waits = []
        for _ in range(2):
            with folder_lock(tmp_path / "lock", on_wait=never) as held:
                assert held
                with (
                    pytest.raises(InterruptedError),
                    folder_lock(tmp_path / "lock", on_wait=lambda: give_up(waits)),
                ):
                    pytest.fail("two hold the lock")
        assert len(waits) == 2
        assert (tmp_path / "lock").is_file()

    def test_a_link_in_its_place_is_not_followed(self, tmp_path):
        (tmp_path / "precious").write_text("text")
        (tmp_path / "lock").symlink_to(tmp_path / "precious")
        with (
            pytest.raises(OSError, match="lock: expected a lock file, got a link; remove it"),
            folder_lock(tmp_path / "lock", on_wait=never),
        ):
            pytest.fail("held")
        assert (tmp_path / "precious").read_text() == "text"

    def test_one_that_waits_is_told_once_and_gets_it(self, tmp_path):
        waits, inside = [], threading.Event()

        def wait():
            with folder_lock(tmp_path / "lock", on_wait=lambda: waits.append(1)) as held:
                assert held
                inside.set()

        thread = threading.Thread(target=wait)
        with folder_lock(tmp_path / "lock", on_wait=never):
            thread.start()
            assert not inside.wait(0.7)
        assert inside.wait(10)
        thread.join(10)
        assert waits == [1]

    def test_it_dies_with_its_holder(self, tmp_path):
        path = tmp_path / "lock"
        process = multiprocessing.get_context("fork").Process(target=hold, args=(path,))
        process.start()
        while not path.with_suffix(".held").exists():
            time.sleep(0.01)
        with pytest.raises(InterruptedError), folder_lock(path, on_wait=lambda: give_up([])):
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        with folder_lock(path, on_wait=never) as held:
            assert held

    @pytest.mark.parametrize("error", [NotImplementedError, OSError(errno.ENOLCK, "no locks")])
    def test_a_file_system_without_locks_is_told(self, tmp_path, monkeypatch, error):
        def refuse(*_, **__):
            raise error

        monkeypatch.setattr(files.FileLock, "acquire", refuse)
        with folder_lock(tmp_path / "lock", on_wait=never) as held:
            assert not held

    def test_a_folder_that_cannot_be_written_is_an_error(self, tmp_path):
        (tmp_path / "file").touch()
        with (
            pytest.raises(OSError, match="file"),
            folder_lock(tmp_path / "file" / "lock", on_wait=never),
        ):
            pass


def give_up(waits):
    waits.append(1)
    raise InterruptedError


class TestBuildOnce:
    def test_the_first_builds_and_the_second_finds(self, tmp_path):
        folder = tmp_path / "new" / "folder"
        assert build_once(folder, fill, on_wait=never)
        assert not build_once(folder, lambda _: pytest.fail("built twice"), on_wait=never)
        assert (folder / "a").read_text() == "whole"
        assert [path.name for path in folder.parent.glob("[!.]*")] == ["folder"]

    def test_a_build_that_fails_leaves_nothing(self, tmp_path):
        def fail(work):
            fill(work)
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            build_once(tmp_path / "folder", fail, on_wait=never)
        assert not list(tmp_path.glob("[!.]*"))

    def test_a_folder_that_is_not_whole_is_replaced(self, tmp_path):
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "b").touch()
        assert build_once(folder, fill, is_whole=lambda f: (f / "a").is_file(), on_wait=never)
        assert [path.name for path in folder.iterdir()] == ["a"]

    @pytest.mark.parametrize("locks", [True, False])
    @pytest.mark.parametrize("only_such_beside", [True, False])
    def test_remains_go_once_they_belong_to_nobody(
        self, tmp_path, monkeypatch, locks, only_such_beside
    ):
        if not locks:
            monkeypatch.setattr(files.FileLock, "acquire", no_locks)
        names = ["folder.tmp-1-a", "folder.tmp-2-b", "folder2.tmp-3-c", "folder2.tmp-4-d"]
        for name in names:
            (tmp_path / name).mkdir()
        for name in names[::2]:
            os.utime(tmp_path / name, (0, 0))
        build_once(tmp_path / "folder", fill, on_wait=never, only_such_beside=only_such_beside)
        left = {path.name for path in tmp_path.glob("*.tmp-*")}
        own = set() if locks else {names[1]}  # without a lock somebody may be building
        others = {names[3]} if only_such_beside else {names[2], names[3]}
        assert left == own | others

    def test_another_users_lock_hinders_nobody(self, tmp_path, monkeypatch):
        umask = os.umask(0o077)
        try:
            assert build_once(tmp_path / "ours", fill, on_wait=never)
        finally:
            os.umask(umask)
        assert (tmp_path / ".ours.lock").stat().st_mode & 0o777 == 0o666

        def theirs(*_, **__):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(files.FileLock, "acquire", theirs)
        assert not build_once(tmp_path / "ours", fill, on_wait=never)
        assert build_once(tmp_path / "another", fill, on_wait=never)

    def test_its_files_are_on_the_disk_before_it_has_its_name(self, tmp_path, monkeypatch):
        synced = []
        monkeypatch.setattr(files.os, "fsync", lambda handle: synced.append(os.fstat(handle)))
        build_once(tmp_path / "folder", fill, on_wait=never)
        assert (tmp_path / "folder" / "a").stat().st_ino in [state.st_ino for state in synced]

    def test_without_locks_the_first_to_end_wins(self, tmp_path, monkeypatch):
        monkeypatch.setattr(files.FileLock, "acquire", no_locks)
        folder = tmp_path / "folder"

        def overtaken(work):
            fill(work)
            folder.mkdir()
            (folder / "a").write_text("theirs")

        assert build_once(folder, overtaken, on_wait=never)
        assert (folder / "a").read_text() == "theirs"
        assert [path.name for path in tmp_path.glob("[!.]*")] == ["folder"]


def test_text_and_json_replace_what_was_there(tmp_path):
    file = tmp_path / "a.json"
    write_text(file, "old")
    write_json(file, {"a": math.nan, "b": [1.5, math.inf], "c": {"d": "ü"}})
    content = file.read_text()
    assert json.loads(content) == {"a": None, "b": [1.5, None], "c": {"d": "ü"}}
    assert content.endswith("}\n")
    with pytest.raises(TypeError):
        write_json(file, {"a": object()})
    assert file.read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_equal_text_is_not_written_again(tmp_path):
    file = tmp_path / "a.txt"
    write_text(file, "same")
    before = file.stat()
    write_text(file, "same")
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    write_text(file, "else")
    assert file.read_text() == "else"


def test_a_link_is_replaced_by_a_file_even_if_it_leads_to_equal_text(tmp_path):
    (tmp_path / "outside").write_text("a")
    (tmp_path / "file").symlink_to(tmp_path / "outside")
    write_text(tmp_path / "file", "a")
    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "file").read_text() == "a"


def test_without_a_home_folder_the_cache_asks_for_a_place(tmp_path, monkeypatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(FileNotFoundError, match=r"paths\.cache_dir: .*set paths\.cache_dir=FOLDER"):
        resolve_cache_dir(None)
    assert resolve_cache_dir(tmp_path) == tmp_path
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert resolve_cache_dir(None) == tmp_path / "tireid"
