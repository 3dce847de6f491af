"""A loader that begins where a run was interrupted, and loading processes that outlive a signal."""

import signal
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from tireid.structures import PairBatch

_GRACE_SECONDS = 30  # that a loading process outlives a signal


class LateDataLoader(DataLoader[Any]):
    """Starts on the first batch instead of on `iter`, and within an epoch where it is told to.

    Lightning calls `iter` before `set_epoch` when a run starts or resumes; workers would by then
    have been sent the first items of the wrong epoch.
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
        """Return how many batches of the epoch were given out; Lightning keeps it."""
        return {"batches": self._yielded % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin the next iteration after so many batches, without loading them.

        After all of an epoch nothing more is asked of it: the next one begins with its first.
        """
        self._first = state["batches"] % len(self)


def outlive_signals(_: int) -> None:
    """Let a loading process live on when its whole group is asked to stop.

    The training process then finishes its step, which needs the next batch, and ends this one.
    """
    for name in ("SIGTERM", "SIGUSR1"):
        if hasattr(signal, name) and hasattr(signal, "alarm"):  # not on Windows
            signal.signal(getattr(signal, name), lambda *_: signal.alarm(_GRACE_SECONDS))
