"""Atomic files, JSON, locks, folders that are built once, config and cache folders, cores."""

import errno
import hashlib
import json
import math
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from filelock import FileLock, Timeout

_SUFFIX = ".part"
# Errors of flock where the system or the file system (some network file systems) has no locks.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
# A lock file of another user, or in a folder that cannot be written to.
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)
_FOR_ALL_USERS = 0o666
_POLL_SECONDS = 0.2
# Without a lock, a half-built folder untouched for this long counts as abandoned.
_ABANDONED_SECONDS = 6 * 3600.0


class _Writer:
    """A file that remembers why writing to it failed: torch hides it."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def replacing(path: Path, previous: Path | None = None) -> Iterator[IO[bytes]]:
    """Write a file under another name, and give it its own when it is safely on the disk.

    A reader sees the old content or the new one, never half of it. What fails leaves nothing.

    Args:
        path: The file; its folder must exist.
        previous: Where the old content is kept; None drops it.

    Yields:
        The file to write to, in binary.

    Raises:
        OSError: If it cannot be written; names the file and what is free.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_SUFFIX}")
    writer = None
    try:
        with temporary.open("wb") as file:
            writer = _Writer(file)
            yield cast(IO[bytes], writer)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            path.replace(previous)
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        hidden = writer.error if writer is not None else None
        cause = error if isinstance(error, OSError) else hidden
        if cause is None:
            raise
        raise OSError(
            cause.errno,
            f"{path}: could not be written ({cause.strerror}{_free(path.parent)}); what was there "
            "before is as it was",
        ) from error


def _free(folder: Path) -> str:
    try:
        return f"; {shutil.disk_usage(folder).free / 2**20:,.0f} MiB free on its disk"
    except OSError:  # there is no such folder
        return ""


def remove_leftovers(folder: Path) -> None:
    """Remove half-written files of killed processes; no other process may be writing there."""
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


def _sync_tree(folder: Path) -> None:
    """Put all files below a folder safely on the disk, so that none is empty after a crash."""
    for place, _, names in os.walk(folder):
        for name in names:
            with Path(place, name).open("rb") as file:
                os.fsync(file.fileno())
        _sync_folder(Path(place))


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8, unless it holds this text already."""
    content = text.encode()
    if _holds(path, content):
        return
    with replacing(path) as file:
        file.write(content)


def _holds(path: Path, content: bytes) -> bool:
    try:
        is_own = path.is_file() and not path.is_symlink()  # a link may leave the folder
        same_size = is_own and path.stat().st_size == len(content)
        return same_size and path.read_bytes() == content
    except OSError:
        return False


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically; JSON has no NaN: values that are not finite become null."""
    write_text(path, json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n")


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def folder_lock(path: Path, *, on_wait: Callable[[], None]) -> Iterator[bool]:
    """Hold a lock on a file while the block runs.

    The kernel frees the lock when its holder ends, however it ends; the file itself stays.

    Args:
        path: The lock file, created if missing.
        on_wait: Called once if another process holds the lock; may raise to give up.

    Yields:
        True with the lock held; False where the system or the file system has no such locks, or the
        file is another user's, so that another process may be in the block too.
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, f"{path}: expected a lock file, got a link; remove it")
    lock = FileLock(path, mode=_FOR_ALL_USERS, fallback_to_soft=False)
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            on_wait()
            lock.acquire(poll_interval=_POLL_SECONDS)
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (*_NO_LOCKS, *_NOT_OURS):
            raise
    try:
        yield lock.is_locked
    finally:
        lock.release()


def build_once(
    folder: Path,
    build: Callable[[Path], None],
    *,
    is_whole: Callable[[Path], bool] = Path.is_dir,
    on_wait: Callable[[], None],
    only_such_beside: bool = False,
) -> bool:
    """Build a folder unless it is there, once for all processes that ask at the same time.

    It is built under another name and renamed when it is whole: a build that fails or is killed
    leaves nothing that is taken for the folder, and the next build removes its remains.

    Args:
        folder: What to build; its parent is created if missing.
        build: Fills an empty folder.
        is_whole: Whether a folder is complete; one that is not is replaced.
        on_wait: Called once if another process is building.
        only_such_beside: Whether the parent holds nothing but folders built by this function, so
            that abandoned remains of all of them are removed.

    Returns:
        Whether this call has built it.

    Raises:
        OSError: If it cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    if is_whole(folder):  # needs no lock, which may be another user's
        return False
    with folder_lock(folder.with_name(f".{folder.name}.lock"), on_wait=on_wait) as alone:
        if is_whole(folder):
            return False
        if folder.exists():
            _discard(folder, folder)
        for remains in folder.parent.glob(
            "*.tmp-*" if only_such_beside else f"{folder.name}.tmp-*"
        ):
            if (alone and remains.name.startswith(f"{folder.name}.")) or _is_abandoned(remains):
                _discard(remains, folder)
        work = _temporary(folder)
        work.mkdir()
        try:
            build(work)
            _sync_tree(work)
            _rename(work, folder, is_whole)
        finally:
            _discard(work, folder)
    return True


def _temporary(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.tmp-{os.getpid()}-{uuid.uuid4().hex[:8]}")


def _rename(work: Path, folder: Path, is_whole: Callable[[Path], bool]) -> None:
    try:
        work.rename(folder)
    except OSError:
        # Where there are no locks another process may have built the same folder first.
        if not is_whole(folder):
            raise


def _is_abandoned(folder: Path) -> bool:
    try:
        touched = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except OSError:  # removed by another process in the meantime
        return False
    return time.time() - touched > _ABANDONED_SECONDS


def _discard(old: Path, folder: Path) -> None:
    """Remove a folder, also one that orphaned workers still write to."""
    moved = _temporary(folder)  # under a new name nobody finds it to add files
    with suppress(OSError):
        old.rename(moved)
    shutil.rmtree(moved, ignore_errors=True)


def resolve_cache_dir(cache_dir: str | Path | None) -> Path:
    """Return an absolute folder; None means `tireid/` below `XDG_CACHE_HOME` or `~/.cache`.

    Raises:
        FileNotFoundError: If there is no home folder: an account without a name, and no HOME.
    """
    try:
        if cache_dir is not None:
            return Path(cache_dir).expanduser().absolute()
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise FileNotFoundError(
            f"paths.cache_dir: expected a home folder for the cache, got none ({error}); set "
            "paths.cache_dir=FOLDER, or HOME or XDG_CACHE_HOME in the environment"
        ) from error
    return Path(home).absolute() / "tireid"


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
