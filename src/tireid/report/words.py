"""Figures as text, and the lines that tell rows apart in tables."""

import statistics
from collections.abc import Sequence

from tireid.report.blocks import Line
from tireid.report.material import Row
from tireid.report.style import swatch

NONE = "-"


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return mean ± sample standard deviation; one value has none, and no value is a dash."""
    if not values:
        return NONE
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def signed(value: float) -> str:
    """Return a difference with its sign."""
    return f"{value:+.1f}".replace("-", "\N{MINUS SIGN}")


def hours(seconds: float) -> str:
    """Return a duration in hours, with two digits that count."""
    value = seconds / 3600
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def row_line(row: Row, cells: Sequence[str], *, control: bool = False) -> Line:
    """Return a line of a table that begins with a row's name and its mark in the figures."""
    mark = "warning" if row.first.selection == "test" else "control" if control else ""
    return Line([row.name + (" (control)" if control else ""), *cells], mark, swatch(row.style))


def plural(number: int, word: str) -> str:
    """Return a number with a word that takes an s."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
