"""As many loading processes as there is shared memory for, through which their batches pass."""

import os
import shutil
import sys
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

PLACE = Path("/dev/shm")  # noqa: S108 -- where Linux keeps it
_IN_USE = 2  # batches that the training process holds: one computed with, one being moved


def workers_that_fit(
    workers: int, batch_bytes: int, processes: int, batch_setting: str, *, prefetch: int = 2
) -> int:
    """Return how many loading processes to start, and warn if they are fewer than wanted.

    A worker that finds no room for its batch cannot pass it on, and a training would wait for ever.

    Args:
        workers: The number that is wanted.
        batch_bytes: Size of a batch.
        processes: Training processes of this machine, which share the memory.
        batch_setting: The setting that makes a batch smaller, for the warning.
        prefetch: Batches that a worker has ready.
    """
    if not workers or sys.platform != "linux":
        return workers
    free = shutil.disk_usage(PLACE).free if os.access(PLACE, os.W_OK) else 0
    # A process has two loaders with workers: that of a validation and, waiting, that of training.
    batches = free / (2 * processes) / max(batch_bytes, 1)
    fitting = min(workers, max(0, int((batches - _IN_USE) // prefetch)))
    if fitting < workers:
        needed = 2 * processes * batch_bytes * (_IN_USE + prefetch * workers)
        rank_zero_warn(
            f"{PLACE}: num_workers={workers} with batches of {_mib(batch_bytes)} needs "
            f"{_mib(needed)} of shared memory, got {_mib(free)}; {fitting} workers load instead. "
            f"In a container, docker run --shm-size={_gib(needed)}g gives more; "
            f"dataset.num_workers={fitting} or a smaller {batch_setting} need no more"
        )
    return fitting


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def _gib(size: int) -> int:
    return max(1, -(-size // 2**30))
