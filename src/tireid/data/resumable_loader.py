"""A DataLoader that resumes mid-epoch, and workers that survive SIGTERM but no failure."""

import multiprocessing.queues
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from tireid.structures import PairBatch

LOADING_SECONDS = 600  # after which a batch that a worker owes is given up, and with it the run
_GRACE_SECONDS = 30  # that a worker survives a signal


class ResumableDataLoader(DataLoader[Any]):
    """A DataLoader that resumes mid-epoch, and starts its workers with the first batch.

    Lightning calls `iter` before `set_epoch` when a run starts or resumes: workers started by
    `iter` would load the first items of the wrong epoch.
    """

    _yielded = 0  # in the iteration under way
    _first = 0  # batch that the next iteration begins with

    def __iter__(self) -> Iterator[PairBatch]:  # pyright: ignore[reportIncompatibleMethodOverride]  Lightning needs no more
        first, self._first = self._first, 0
        if first:
            sampler: Any = self.sampler
            sampler.skip(first)
        self._yielded = first
        for batch in super().__iter__():
            self._yielded += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the number of batches of this epoch so far; Lightning stores it."""
        return {"batches": self._yielded % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration skip the batches of before, without loading them.

        After a whole epoch there is nothing to skip: the next one begins with its first batch.
        """
        self._first = state["batches"] % len(self)


def prepare_worker(_: int) -> None:
    """Keep a worker alive when its group is asked to stop; end it when it cannot pass on a batch.

    After a signal the training process finishes its step, which needs the next batch, and then ends
    the worker. A batch that was lost would never come: the training process waits for it as long as
    the worker lives.
    """
    for name in ("SIGTERM", "SIGUSR1"):
        if hasattr(signal, name) and hasattr(signal, "alarm"):  # not on Windows
            signal.signal(getattr(signal, name), lambda *_: signal.alarm(_GRACE_SECONDS))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from a keyboard it reaches the whole group
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end)  # pyright: ignore[reportAttributeAccessIssue]


def _end(error: BaseException, _: object) -> None:
    sys.stderr.write(f"a loading process could not pass on a batch: {error}\n")
    sys.stderr.flush()
    os._exit(1)
