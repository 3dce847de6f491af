"""The state of a run folder, complete, in use or free, and the link to the newest."""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tireid.console import say
from tireid.files import folder_lock
from tireid.runs.record import read_record
from tireid.runs.settings import CONFIG_FILE, difference

LATEST = "latest"  # a link beside run folders that are named by the time, and a name of a run
RUNS = Path("runs")  # as `paths.runs_dir` of conf/
_TIME = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d+")


class _InUse(Exception):  # noqa: N818 -- not an error: another process works there
    pass


@contextmanager
def claim(folder: Path, lock: str = ".lock", *, waits: bool = False) -> Iterator[bool]:
    """Lock a run folder while the block runs; yield False if another process holds it.

    Args:
        folder: The run folder; made if missing.
        lock: Name of the lock file in it.
        waits: Whether to wait for the other process instead.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def give_up() -> None:
        if not waits:
            raise _InUse
        say(f"{folder}: in use by another process; waiting for it")

    try:
        with folder_lock(folder / lock, on_wait=give_up) as is_locked:
            if not is_locked:
                warnings.warn(
                    f"{folder}: its file system has no locks, or none for this user, so nothing "
                    "keeps a second run out of this folder, and two would damage each other's "
                    "files: start only one",
                    stacklevel=3,
                )
            yield True
    except _InUse:
        yield False


def finished_metrics(folder: Path, settings: dict[str, Any]) -> dict[str, float] | None:
    """Return the metrics of the complete run in a folder; None if there is none.

    Args:
        folder: The run folder, which need not exist.
        settings: The resolved config that the run must have.

    Raises:
        ValueError: If the folder holds a complete run with another config, or its record cannot be
            read.
    """
    record = read_record(folder)
    if not (record.get("finished") and (folder / CONFIG_FILE).is_file()):
        return None
    if different := difference(folder, settings):
        raise ValueError(
            f"{folder}: expected a run with these settings, got a complete one with {different}; "
            "choose another folder (hydra.run.dir=...), or ckpt_path=null starts from scratch"
        )
    return {name: value for name, value in record.get("metrics", {}).items() if value is not None}


def is_unfinished(folder: Path) -> bool:
    """Return whether a folder holds a run that has begun and not ended."""
    return (folder / CONFIG_FILE).is_file() and not read_record(folder).get("finished")


def link_latest(folder: Path) -> None:
    """Let `latest` beside a run folder that is named by the time lead to it, where links exist."""
    link, temporary = (folder.with_name(name) for name in (LATEST, f".{LATEST}.{os.getpid()}"))
    if not _TIME.fullmatch(folder.name) or (link.exists() and not link.is_symlink()):
        return
    with suppress(OSError):
        temporary.symlink_to(folder.name, target_is_directory=True)
        temporary.replace(link)


def runs_below(runs: Path) -> list[Path]:
    """Return the run folders with a checkpoint below a folder, newest last, without teachers'."""
    folders = {file.parent for file in runs.rglob(CONFIG_FILE)}
    found = [
        folder
        for folder in folders
        if not folders.intersection(folder.parents) and any(folder.glob("checkpoints/*.ckpt"))
    ]
    return sorted(found, key=_changed)


def _changed(folder: Path) -> tuple[float, str]:
    return max(file.stat().st_mtime for file in folder.glob("checkpoints/*.ckpt")), folder.name


def named_run(name: str | Path, runs: Path = RUNS) -> Path:
    """Return the path of a run; `latest`, where nothing is called so, is the newest run.

    Args:
        name: A path, or `latest`.
        runs: Folder that trainings write to.

    Raises:
        FileNotFoundError: If there is no run.
    """
    path = Path(name)
    if str(name) != LATEST or path.exists():
        return path
    if not (found := runs_below(runs)):
        raise FileNotFoundError(
            f"latest: expected a run below {runs}/, got none: `tireid train` makes one"
        )
    say(f"latest: {found[-1]}", to_stderr=True)
    return found[-1]
