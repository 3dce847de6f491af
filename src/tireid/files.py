"""The operating system: atomic files, JSON, locks, where configs and caches lie, cores."""

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

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


_POLL_SECONDS = 0.2


@contextmanager
def folder_lock(path: Path, *, on_wait: Callable[[], None]) -> Iterator[bool]:
    """Hold a lock on a file while the block runs.

    The kernel frees the lock when its holder ends, however it ends; the file itself stays.

    Args:
        path: The lock file, made if missing.
        on_wait: Called once if somebody else holds the lock.

    Yields:
        True with the lock held; False where the system or the file system has no such locks, so
        that somebody else may be in the block too.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield _acquired(handle, on_wait)
    finally:
        os.close(handle)


def _acquired(handle: int, on_wait: Callable[[], None]) -> bool:
    if fcntl is None:
        return False
    waited = False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waited:
                on_wait()
            waited = True
            time.sleep(_POLL_SECONDS)
        except OSError:
            # Some network file systems refuse locks.
            return False
        else:
            return True


def resolve_cache_dir(cache_dir: str | Path | None) -> Path:
    """Return an absolute folder; None means `tireid/` below `XDG_CACHE_HOME` or `~/.cache`."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "tireid"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it.

    JSON has no NaN: figures that are not defined become null.
    """
    text = json.dumps(_without_nan(content), indent=2, allow_nan=False)
    with replacing(path) as file:
        file.write(f"{text}\n".encode())


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def conf_dir() -> str:
    """Return the folder of the configs: inside an installed package, or beside the sources."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parents[1] / "conf"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise FileNotFoundError(f"expected the configs in {package / 'conf'}; reinstall tireid")


def available_cores() -> int:
    """Return how many cores this process may use: a batch system may allow fewer than there are."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
