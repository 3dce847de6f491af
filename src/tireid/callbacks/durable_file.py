"""Files that are whole or not there, whatever kills the process or fills the disk."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SUFFIX = ".part"


class _Writer:
    """Passes on what is written and remembers why that failed: torch hides it."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


@contextmanager
def replacing(path: Path, previous: Path | None = None) -> Iterator[_Writer]:
    """Write a file beside its place, and put it there when it is safely on the disk.

    A reader sees the old content or the new one, never half of it. What fails leaves nothing.

    Args:
        path: The file; its folder is there.
        previous: Where the old content is kept; None: nowhere.

    Raises:
        OSError: If it cannot be written; names the file and what is free.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_SUFFIX}")
    writer = None
    try:
        with temporary.open("wb") as file:
            writer = _Writer(file)
            yield writer
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            path.replace(previous)
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        hidden = writer.error if writer is not None else None
        cause = error if isinstance(error, OSError) else hidden
        if cause is None:
            raise
        free = shutil.disk_usage(path.parent).free / 2**20
        raise OSError(
            cause.errno,
            f"{path}: could not be written ({cause.strerror}; {free:,.0f} MiB free on its disk); "
            "what was there before is as it was",
        ) from error


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half written; nobody else may be writing there."""
    for leftover in folder.glob(f".*{_SUFFIX}"):
        leftover.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
