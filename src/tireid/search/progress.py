"""Progress of an indexing: a bar on a terminal, a line a minute in a file."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from tireid.console import duration, say

Advance = Callable[[float | int], None]
_SECONDS = 60.0  # between two lines


@contextmanager
def shown_progress(work: str, total: int | None = None) -> Iterator[Advance]:
    """Show how far a work is, on standard error.

    Args:
        work: What is done.
        total: Number of files; None: it is not known.

    Yields:
        To be told what was done since the last time, in files.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(work, total).advance
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        yield partial(bar.advance, bar.add_task(work, total=total))


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.3g} files/s")


class _Lines:
    def __init__(self, work: str, total: int | None) -> None:
        self._work, self._total = work, total
        self._done = 0.0
        self._began = self._said = time.monotonic()

    def advance(self, count: float | int) -> None:
        """Print a line if it is time."""
        self._done += count
        now = time.monotonic()
        if now < self._said + _SECONDS:
            return
        self._said = now
        rate = self._done / (now - self._began)
        line = f"{self._work}: {self._done:,.0f}"
        if self._total is not None:
            left = duration((self._total - self._done) / rate) if rate else "?"
            line += f" of {self._total:,}   left {left}"
        say(f"{line}   {rate:,.3g} files/s", to_stderr=True)
