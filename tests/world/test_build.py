import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from tireid import files
from tireid.world import WorldSettings, build, ensure_world, workers

PROGRAM = """
import json, sys
from tireid.world import WorldSettings, ensure_world
settings = WorldSettings(**json.loads(sys.argv[2]))
sys.stdout.write(str(ensure_world(sys.argv[1], settings, num_workers=int(sys.argv[3]))))
"""


def start(cache: Path, settings: WorldSettings, num_workers: int = 1) -> subprocess.Popen:
    source = Path(build.__file__).parents[2]
    return subprocess.Popen(
        [
            sys.executable, "-c", PROGRAM, str(cache), json.dumps(settings.to_dict()),
            str(num_workers),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def tiny_world(tmp_path_factory: pytest.TempPathFactory, tiny: WorldSettings) -> Path:
    return ensure_world(tmp_path_factory.mktemp("tiny"), tiny, progress=False)


def test_same_settings_give_the_same_bytes(
    tiny: WorldSettings, tiny_world: Path, tmp_path: Path, fingerprint: Callable
):
    again = ensure_world(tmp_path, tiny, progress=False)
    assert again.name == tiny_world.name
    assert fingerprint(again) == fingerprint(tiny_world)


def test_number_of_processes_changes_nothing(
    tiny: WorldSettings,
    tiny_world: Path,
    tmp_path: Path,
    fingerprint: Callable,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(workers, "_MIN_IMAGES_PER_WORKER", 1)
    started = []
    real_start = workers._start
    monkeypatch.setattr(workers, "_start", lambda *a: started.append(a) or real_start(*a))
    spread = ensure_world(tmp_path, tiny, progress=False, num_workers=3)
    assert len(started) == 3
    assert fingerprint(spread) == fingerprint(tiny_world)


def test_another_seed_gives_other_pictures(
    tiny: WorldSettings, tiny_world: Path, tmp_path: Path, fingerprint: Callable
):
    other = ensure_world(tmp_path, replace(tiny, seed=1), progress=False)
    assert other.name != tiny_world.name
    mine, theirs = fingerprint(tiny_world), fingerprint(other)
    assert not set(mine.values()) & set(theirs.values())


def test_a_larger_world_keeps_nothing_stale(
    tiny: WorldSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = tmp_path / "package"
    source.mkdir()
    (source / "figure.py").write_text("arms = 2\n")
    monkeypatch.setattr(build, "__file__", str(source / "build.py"))
    before = build.world_key(tiny)
    assert build.world_key(tiny) == before
    (source / "figure.py").write_text("arms = 3\n")
    assert build.world_key(tiny) != before


def test_second_use_is_silent_and_makes_nothing(
    tiny: WorldSettings,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    folder = ensure_world(tmp_path, tiny)
    said = capfd.readouterr()
    assert "Drawing 12 synthetic images of 6 identities" in said.err
    assert said.out == ""
    monkeypatch.setattr(build, "make_rows", None)
    assert ensure_world(tmp_path, tiny) == folder
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("damage", ["an image", "a cut image", "imgs", "annotations", "all files"])
def test_a_damaged_world_is_drawn_again_with_one_line(
    damage: str,
    tiny: WorldSettings,
    tiny_world: Path,
    tmp_path: Path,
    fingerprint: Callable,
    capfd: pytest.CaptureFixture[str],
):
    folder = shutil.copytree(tiny_world, tmp_path / tiny_world.name)
    image = next(folder.rglob("*.jpg"))
    if damage == "an image":
        image.unlink()
    elif damage == "a cut image":
        image.write_bytes(image.read_bytes()[:-1])
    elif damage == "imgs":
        shutil.rmtree(folder / "imgs")
    elif damage == "annotations":
        (folder / "reid_raw.json").write_text("")
    else:
        for path in folder.rglob("*"):
            path.is_file() and path.unlink()
    assert ensure_world(tmp_path, tiny) == folder
    assert f"{folder} is damaged: files are missing or cut off; it is" in capfd.readouterr().err
    assert fingerprint(folder) == fingerprint(tiny_world)


def test_two_processes_starting_together_make_one_world(tiny: WorldSettings, tmp_path: Path):
    settings = replace(tiny, num_train_ids=20)
    both = [start(tmp_path, settings) for _ in range(2)]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert sum("Drawing" in err for _, err in said) == 1
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == [
        Path(said[0][0]).name
    ]


@pytest.fixture(scope="module")
def whole_world(tmp_path_factory: pytest.TempPathFactory, tiny: WorldSettings) -> Path:
    settings = replace(tiny, num_train_ids=45)
    return ensure_world(tmp_path_factory.mktemp("whole"), settings, progress=False)


@pytest.mark.parametrize("num_workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_killed_build_is_made_again(
    num_workers: int,
    tiny: WorldSettings,
    whole_world: Path,
    tmp_path: Path,
    fingerprint: Callable,
):
    settings = replace(tiny, num_train_ids=45)
    process = start(tmp_path / "killed", settings, num_workers)
    deadline = time.monotonic() + 30
    while len(list((tmp_path / "killed").glob("*.tmp-*/imgs/*/*.jpg"))) < 3:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list((tmp_path / "killed").glob("*.tmp-*"))
    assert not (tmp_path / "killed" / build.world_key(settings)).exists()
    if num_workers == 2:
        time.sleep(0.3)  # the orphaned workers notice that nobody reads them
    folder = ensure_world(tmp_path / "killed", settings, progress=False)
    assert not list((tmp_path / "killed").glob("*.tmp-*"))
    assert fingerprint(folder) == fingerprint(whole_world)


def test_a_full_disk_is_named_and_leaves_nothing(
    tiny: WorldSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        ensure_world(tmp_path, tiny, progress=False)
    assert caught.value.errno == errno.ENOSPC
    assert str(tmp_path) in str(caught.value)
    assert "paths.cache_dir" in str(caught.value)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


def test_a_worker_tells_why_it_failed(
    tiny: WorldSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(workers, "_MIN_IMAGES_PER_WORKER", 1)
    real_start = workers._start

    def start_in_nowhere(folder: Path, *rest: object) -> AbstractContextManager[subprocess.Popen]:
        file = tmp_path / "a file"
        file.touch()
        return real_start(file, *rest)

    monkeypatch.setattr(workers, "_start", start_in_nowhere)
    with pytest.raises(NotADirectoryError, match="cannot be written to"):
        ensure_world(tmp_path / "cache", tiny, progress=False, num_workers=2)


def test_a_cache_that_cannot_be_a_folder_is_named(tiny: WorldSettings, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/cache: .*choose another with paths\.cache_dir"):
        ensure_world(tmp_path / "file" / "cache", tiny, progress=False)


def test_bad_number_of_workers(tiny: WorldSettings, tmp_path: Path):
    with pytest.raises(ValueError, match="num_workers: expected at least 1, got 0"):
        ensure_world(tmp_path, tiny, num_workers=0)


def test_without_locks_an_abandoned_folder_goes_and_a_fresh_one_stays(
    tiny: WorldSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def no_locks(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.FileLock, "acquire", no_locks)
    key = build.world_key(tiny)
    fresh, old = tmp_path / f"{key}.tmp-1-a", tmp_path / f"{key}.tmp-2-b"
    fresh.mkdir()
    old.mkdir()
    os.utime(old, (0, 0))
    folder = ensure_world(tmp_path, tiny, progress=False)
    assert folder.is_dir()
    assert fresh.is_dir()
    assert not old.exists()
