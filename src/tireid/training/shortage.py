"""What to set when the machine is short of memory, open files, or room on a disk."""

import errno
import re
import traceback
from collections.abc import Iterator, Mapping

from torch import OutOfMemoryError

_MEMORY = re.compile(
    r"out of memory|can't allocate memory|Cannot allocate memory|not enough memory|bad_alloc"
    r"|could not create a primitive|can't start new thread|unable to mmap",
    re.IGNORECASE,
)
_FILES = re.compile(r"Too many open files|items of ancdata", re.IGNORECASE)
_WORKER = re.compile(r"DataLoader (worker .* exited unexpectedly|timed out)")
_LOADER = "torch.utils.data.dataloader"
_FOLDERS = (
    "hydra.run.dir=FOLDER for a run, paths.cache_dir=FOLDER for the cache, else output=FOLDER"
)
SETTINGS = {
    "memory": (
        "set a smaller batch_size, dataset.eval_batch_size or dataset.image_size, "
        "trainer.precision=bf16-mixed, or dataset.num_workers=0"
    ),
    "files": (
        "too many open files; allow this shell more (ulimit -n 4096), or load images without "
        "processes of their own: dataset.num_workers=0"
    ),
    "worker": (
        "a process that loads images has ended or owes a batch, most often for want of memory or "
        "of open files (ulimit -n); dataset.num_workers=0 loads without such processes"
    ),
    "disk": (
        "make room there and start the same command again, which continues a run; or choose a "
        f"folder on another disk: {_FOLDERS}"
    ),
    "closed": f"choose a folder that may be written to: {_FOLDERS}",
}
_ERRNO = {
    errno.ENOMEM: "memory",
    errno.EMFILE: "files",
    errno.ENFILE: "files",
    errno.ENOSPC: "disk",
    errno.EDQUOT: "disk",
    errno.EFBIG: "disk",
    errno.EROFS: "closed",
}


def shortage(error: BaseException, advice: Mapping[str, str] = SETTINGS) -> str | None:
    """Return the message for an error that says what the machine is short of; None for others.

    Args:
        error: What was raised.
        advice: What to do about each kind, by the names in `SETTINGS`.
    """
    for cause in _causes(error):
        kind = _kind(cause)
        if kind is None:
            continue
        said = " ".join(str(cause).split()) or type(cause).__name__
        if kind in ("disk", "closed"):
            return f"{said}; {advice[kind]}"
        told = "; ".join([*getattr(cause, "__notes__", []), ""])  # by FittingBatch
        short = "out of memory; " if kind == "memory" else ""
        return f"{short}{told}{advice[kind]} ({said[:200]})"
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that led to it: libraries wrap what the machine said."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _kind(error: BaseException) -> str | None:
    if isinstance(error, MemoryError | OutOfMemoryError):
        return "memory"
    if isinstance(error, OSError) and error.errno in _ERRNO:
        return _ERRNO[error.errno]
    if isinstance(error, ConnectionError | EOFError):  # from a process that ended as it sent
        frames = traceback.walk_tb(error.__traceback__)
        return "worker" if any(f.f_globals.get("__name__") == _LOADER for f, _ in frames) else None
    if isinstance(error, RuntimeError | OSError):
        for pattern, kind in ((_MEMORY, "memory"), (_FILES, "files"), (_WORKER, "worker")):
            if pattern.search(str(error)):
                return kind
    return None
