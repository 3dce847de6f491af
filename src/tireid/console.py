"""One way to the screen: lines, tables, warnings and errors."""

import logging
import math
import re
import warnings
from collections.abc import Iterable
from functools import cache
from typing import Any

from rich.console import Console, RenderableType
from rich.segment import Segment

# Libraries give them on every run; they are for somebody else, or the config has decided already.
EXPECTED_WARNINGS = [
    r".*The number of training batches .* is smaller than the logging interval.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*GPU available but not used.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r".*Experiment logs directory .* exists and is not empty.*",
    r".*enable_nested_tensor is True.*",
    r"Total length of `list` across ranks is zero.*",
    r"`ModelCheckpoint\(monitor=.*\)` could not find the monitored key.*",
    r"Found .* in eval mode at the start of training.*",
    r"(?s)Grad strides do not match bucket view strides.*",  # along a dimension of size 1
]

# What moves the cursor, sets colours, reverses the text or cannot be encoded; names in foreign
# files may hold it.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

# Characters with a meaning in Markdown or HTML; a label may contain any of them.
_ESCAPED = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "\\`*_[]|#~$"},
        "<": "&lt;",
        ">": "&gt;",
        "&": "&amp;",
    }
)


class _Screen(Console):
    """Prints no control characters but its own."""

    def render(self, *arguments: Any, **options: Any) -> Iterable[Segment]:
        for segment in super().render(*arguments, **options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def printable(text: str) -> str:
    """Return a text with a question mark for each control character, but for ends of lines."""
    return _UNPRINTABLE.sub("?", text)


def escaped(text: str) -> str:
    """Return text on one line that Markdown shows unchanged."""
    return " ".join(printable(text).split()).translate(_ESCAPED)


def say(line: str, *, style: str | None = None, to_stderr: bool = False) -> None:
    """Print a line as it is: never wrapped, brackets are no markup.

    Args:
        line: May hold several lines.
        style: As rich names it: `bold`, `dim`, `bold red`.
        to_stderr: Whether it is printed to standard error: news of the work, not its result.
    """
    console = _Screen(stderr=to_stderr, highlight=False, soft_wrap=True)
    console.print(line, style=style, markup=False)


def show(renderable: RenderableType, *, uncut: bool = False) -> None:
    """Print a table or another object of rich as wide as the terminal.

    Args:
        renderable: What is printed.
        uncut: Print it wider than the terminal rather than cut.
    """
    console = _Screen(highlight=False)
    if uncut:
        unlimited = console.options.update(width=10_000)
        widest = console.measure(renderable, options=unlimited).maximum
        console = _Screen(highlight=False, soft_wrap=True, width=max(console.width, widest))
    console.print(renderable)


_LONGEST_ERROR = 2000  # characters; a value from a file or a command line may be endless


def complain(message: str, hint: str = "") -> None:
    """Print an error to standard error.

    Args:
        message: What was expected, what was got and what to do.
        hint: A second line, dimmed.
    """
    console = _Screen(stderr=True, highlight=False, soft_wrap=True)
    console.print("[bold red]error:[/bold red] ", end="")
    if len(message) > _LONGEST_ERROR:
        message = f"{message[:_LONGEST_ERROR]}... ({len(message):,} characters)"
    console.print(message, markup=False)
    if hint:
        console.print(hint, style="dim", markup=False)


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it.

    Example:
        >>> [duration(seconds) for seconds in (8, 200, 7800)]
        ['8 s', '3 min', '2 h 10 min']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if math.isinf(seconds):
        return "?"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def _print_warning(message: Warning | str, *_: Any) -> None:
    _warn_once(str(message))


@cache
def _warn_once(message: str) -> None:
    """Print a warning; what is read several times says the same each time."""
    console = _Screen(stderr=True, highlight=False, soft_wrap=True)
    console.print("[yellow]warning:[/yellow] ", end="")
    console.print(message, markup=False)


def silence_expected_warnings() -> None:
    """Silence device notes, tips, and warnings about what the config has decided."""
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)


def show_warnings_in_one_line() -> None:
    """Print warnings from now on without their place in the code, each once."""
    _warn_once.cache_clear()
    warnings.showwarning = _print_warning
