"""One style for all figures, whatever a notebook or a `matplotlibrc` has set."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Float, Num
from numpy import ndarray


@contextmanager
def own_style(settings: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Draw with matplotlib's defaults, without a warning for glyphs that its font lacks.

    Figures and what is drawn in them take the style when they are made, so all of the drawing and
    the saving belongs inside. May be used as a decorator.

    Args:
        settings: Departures from the defaults, by matplotlib's names.
    """
    from matplotlib import style

    with style.context(["default", dict(settings or {})]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


# The palette of Okabe & Ito, which colour-blind readers can tell apart too.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933"]
# Frames of images: of the query's identity, of another, and the one that the caption describes.
RIGHT, WRONG, OWN = "#009E73", "#D55E00", "#444444"
_JOINED = 4  # recorded bins of similarity in one bin of a plot


def log_scale(axes: Any, lowest: float) -> None:
    """Scale the vertical axis by logarithms, with ticks that are numbers at 1, 2 and 5.

    Args:
        axes: Those of matplotlib.
        lowest: The lowest value that is drawn; where it is not above 0, the scale is linear near 0.
    """
    from matplotlib.ticker import LogLocator

    if lowest > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter("")
    else:
        axes.set_yscale("symlog", linthresh=1e-2)
    axes.yaxis.set_major_formatter("{x:g}")


def draw_similarities(
    axes: Any,
    edges: Float[ndarray, " edges"],
    positives: Num[ndarray, " bins"],
    negatives: Num[ndarray, " bins"],
) -> None:
    """Draw the distributions of the similarities of matching and of other pairs, of area 1 each.

    Args:
        axes: Those of matplotlib to draw in.
        edges: Edges of the bins of similarity.
        positives: Pairs of one identity in each bin.
        negatives: Pairs of two identities in each bin.
    """
    whole = len(positives) // _JOINED * _JOINED
    places = edges[: whole + 1 : _JOINED]
    for label, counts, colour, line, hatch in (
        ("other pairs", negatives, COLOURS[1], "--", "////"),
        ("matching pairs", positives, COLOURS[0], "-", None),
    ):
        joined = counts[:whole].reshape(-1, _JOINED).sum(1)
        height = joined / max(joined.sum(), 1) / np.diff(places)
        axes.stairs(height, places, color=colour, alpha=0.22, fill=True, hatch=hatch, lw=0)
        axes.stairs(height, places, color=colour, linestyle=line, linewidth=1.4, label=label)
