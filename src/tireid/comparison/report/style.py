"""Colours, markers and lines of the rows of a comparison, and matplotlib figures as data URIs."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from tireid.comparison.report.blocks import Figure
from tireid.figures import COLOURS, own_style

# In print, and where colours do not tell, markers and lines do. The numbers of the three have no
# common factor, so that only after all combinations one comes again.
_COLOURS = COLOURS[:7]
_MARKERS = "osD^vPX*<>d"
_LINES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
WIDTH = 4.25  # inches: three figures side by side on a wide page, one on a phone
_DOTS_PER_INCH = 96
_FONT_SIZE = 10.5  # points; still read where a phone shrinks the picture


@dataclass(frozen=True, slots=True)
class Style:
    """How a row is drawn in all figures."""

    colour: str
    marker: str
    line: Any

    @classmethod
    def of(cls, number: int) -> "Style":
        """Return the style of the row with a number, from 0."""
        return cls(
            _COLOURS[number % len(_COLOURS)],
            _MARKERS[number % len(_MARKERS)],
            _LINES[number % len(_LINES)],
        )

    @property
    def keywords(self) -> dict[str, Any]:
        """Return arguments of `Axes.plot`."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": self.line,
            "markersize": 5.5,
            "linewidth": 1.5,
        }


@contextmanager
def drawing(width: float, height: float) -> Iterator[Any]:
    """Give a matplotlib figure in the style of the report.

    Args:
        width: In inches.
        height: In inches.
    """
    from matplotlib.figure import Figure as Drawing

    settings: dict[str, Any] = {
        "font.size": _FONT_SIZE,
        "axes.titlesize": _FONT_SIZE,
        "axes.labelsize": _FONT_SIZE,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "axes.axisbelow": True,
        "svg.fonttype": "path",
        "svg.hashsalt": "tireid",  # equal runs give an equal page
        "text.parse_math": False,  # labels are anybody's
        "hatch.linewidth": 0.6,
    }
    with own_style(settings):
        yield Drawing(figsize=(width, height), layout="constrained")


def figure(drawn: Any, alt: str, title: str = "") -> Figure:
    """Return what was drawn, as a picture of a report; inside `drawing`."""
    file = io.BytesIO()
    drawn.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    width = round(drawn.get_figwidth() * _DOTS_PER_INCH)
    return Figure(_uri("image/svg+xml", file.getvalue()), alt, title, width)


@own_style()
def swatch(style: Style) -> str:
    """Return a small picture of a row's line and marker, as a data URI."""
    from matplotlib.figure import Figure as Drawing

    drawn = Drawing(figsize=(0.42, 0.17))
    axes = drawn.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.axis("off")
    axes.plot([0, 0.5, 1], [0, 0, 0], markevery=[1], **style.keywords)
    axes.set(xlim=(-0.02, 1.02), ylim=(-1, 1))
    file = io.BytesIO()
    drawn.savefig(file, format="png", dpi=192, transparent=True)
    return _uri("image/png", file.getvalue())


def thumbnail(path: Path, alt: str, size: tuple[int, int] = (64, 160)) -> Figure:
    """Return a small picture of a file.

    Args:
        path: Of the image.
        alt: What it shows.
        size: Largest width and height in pixels of the page; twice as many are kept where the
            image has them, for screens with finer dots.

    Raises:
        OSError: If it cannot be read.
    """
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    shown = ImageOps.contain(picture, size).size
    picture.thumbnail((2 * size[0], 2 * size[1]))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=72, optimize=True)
    return Figure(_uri("image/jpeg", file.getvalue()), alt, width=shown[0])


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
