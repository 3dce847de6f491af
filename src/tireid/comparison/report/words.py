"""Figures as text, and the lines that tell rows apart in tables."""

import statistics
from collections.abc import Sequence

from tireid.comparison.report.blocks import Key, Line
from tireid.comparison.report.material import Row
from tireid.comparison.report.style import swatch

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


def row_line(row: Row, cells: Sequence[str], *, control: bool = False) -> Line:
    """Return a line of a table that begins with a row's name and its mark in the figures."""
    mark = "warning" if row.first.selection == "test" else "control" if control else ""
    return Line([row.name + (" (control)" if control else ""), *cells], mark, swatch(row.style))


def key(rows: Sequence[Row]) -> Key:
    """Return what the colours and markers of rows stand for."""
    return Key([(row.name, swatch(row.style)) for row in rows])


def plural(number: int, word: str) -> str:
    """Return a number with a word that takes an s."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
