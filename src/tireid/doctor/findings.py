"""A finding: something that is wrong with a data set or worth knowing, and what to do about it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a data set, or worth knowing.

    Attributes:
        title: One sentence, with numbers.
        advice: What to do.
        harms: Whether it loses data or falsifies results; such findings come first.
        examples: The first few places.
        images: Files that show it, for a report that was asked to show images.
    """

    title: str
    advice: str
    harms: bool = True
    examples: tuple[str, ...] = ()
    images: tuple[Path, ...] = ()


def first(items: Iterable[object]) -> tuple[str, ...]:
    """Return the first few of some items as text."""
    return tuple(str(item) for item, _ in zip(items, range(SHOWN), strict=False))


def number(count: int, what: str, many: str = "") -> str:
    """Return a count with its noun: `1 image`, `2,000 images`."""
    return f"{count:,} {what if count == 1 else many or what + 's'}"
