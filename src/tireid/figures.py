"""One style for all figures, whatever a notebook or a `matplotlibrc` has set."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


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
