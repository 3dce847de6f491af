"""A lock between processes that dies with its holder."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

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
