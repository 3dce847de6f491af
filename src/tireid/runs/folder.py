"""The state of a run folder: complete, in use by another process, or free."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tireid.console import say
from tireid.files import folder_lock
from tireid.runs.record import RECORD_FILE
from tireid.runs.settings import CONFIG_FILE, difference


class _Taken(Exception):  # noqa: N818 -- not an error: another process is at work
    pass


@contextmanager
def claimed(folder: Path, lock: str = ".lock", *, waits: bool = False) -> Iterator[bool]:
    """Hold a run folder while the block runs; False where another process holds it.

    Args:
        folder: Made if missing.
        lock: Name of the file in it that stands for what is held.
        waits: Whether to wait for the other process, instead of False.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def give_up() -> None:
        if not waits:
            raise _Taken
        say(f"{folder}: in use by another process; waiting for it")

    try:
        with folder_lock(folder / lock, on_wait=give_up):
            yield True
    except _Taken:
        yield False


def finished_metrics(folder: Path, settings: dict[str, Any]) -> dict[str, float] | None:
    """Return the metrics of the complete run in a folder, None where there is none.

    Args:
        folder: A run folder, or what may become one.
        settings: The resolved config of the run that is asked for.

    Raises:
        ValueError: If the folder holds a complete run with other settings.
    """
    config = folder / CONFIG_FILE
    record = _record(folder)
    if not (record.get("finished") and config.is_file()):
        return None
    if different := difference(folder, settings):
        raise ValueError(
            f"{folder}: expected a run with these settings, got a complete one with {different}; "
            "choose another folder or delete this one"
        )
    return {name: value for name, value in record["metrics"].items() if value is not None}


def is_unfinished(folder: Path) -> bool:
    """Return whether a folder holds a run that has begun and not ended."""
    return (folder / CONFIG_FILE).is_file() and not _record(folder).get("finished")


def _record(folder: Path) -> dict[str, Any]:
    file = folder / RECORD_FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
