"""The style of rows in figures, and matplotlib figures and images as data URIs."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tireid.comparison.report.blocks import Figure
from tireid.data.images import decode
from tireid.figures import COLOURS, own_style

# Markers and lines distinguish rows where colours do not, as in print. The numbers of the three
# have no common factor, so a combination repeats only after all others.
_COLOURS = COLOURS[:7]
_MARKERS = "osD^vPX*<>d"
_LINES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
WIDTH = 4.25  # inches: three figures side by side on a wide page, one on a phone
_DOTS_PER_INCH = 96
_FONT_SIZE = 10.5  # points; legible when a phone shrinks the figure


@dataclass(frozen=True, slots=True)
class Style:
    """The style of a row in all figures."""

    colour: str
    marker: str
    line: Any

    @classmethod
    def of(cls, number: int) -> "Style":
        """Return the style of a row by its index."""
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
    """Yield a matplotlib figure in the style of the report.

    Args:
        width: Width in inches.
        height: Height in inches.
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
        "svg.hashsalt": "tireid",  # so that equal runs give equal files
        "text.parse_math": False,  # a label is not mathematics
        "hatch.linewidth": 0.6,
    }
    with own_style(settings):
        yield Drawing(figsize=(width, height), layout="constrained")


def figure(drawn: Any, alt: str, title: str = "") -> Figure:
    """Return a matplotlib figure as a figure of the report; call it inside `drawing`."""
    file = io.BytesIO()
    drawn.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    width = round(drawn.get_figwidth() * _DOTS_PER_INCH)
    return Figure(_uri("image/svg+xml", file.getvalue()), alt, title, width)


@own_style()
def swatch(style: Style) -> str:
    """Return an image of a row's line and marker, as a data URI."""
    from matplotlib.figure import Figure as Drawing

    drawn = Drawing(figsize=(0.42, 0.17))
    axes = drawn.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.axis("off")
    axes.plot([0, 0.5, 1], [0, 0, 0], markevery=[1], **style.keywords)
    axes.set(xlim=(-0.02, 1.02), ylim=(-1, 1))
    file = io.BytesIO()
    drawn.savefig(file, format="png", dpi=192, transparent=True)
    return _uri("image/png", file.getvalue())


def thumbnail(
    path: Path, alt: str, size: tuple[int, int] = (64, 160), *, title: str = "", scale: int = 2
) -> Figure:
    """Return a small copy of an image.

    Args:
        path: The image file.
        alt: Text that stands for the image.
        size: Largest width and height on a page, in pixels.
        title: Text below the image.
        scale: Pixels of the copy for each pixel of the page, for sharp screens.

    Raises:
        ValueError: If the file cannot be read; names it.
    """
    image = decode(path)
    image.thumbnail((scale * size[0], scale * size[1]))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=75, optimize=True)
    return Figure(_uri("image/jpeg", file.getvalue()), alt, title, image.width // scale)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
