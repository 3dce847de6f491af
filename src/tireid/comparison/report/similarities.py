"""How the similarities of right and wrong pairs are spread."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from tireid.comparison.report.blocks import Block, Figure, Figures, Note, Section
from tireid.comparison.report.material import Material, Row
from tireid.comparison.report.style import WIDTH, drawing, figure

_RIGHT, _WRONG = "#0072B2", "#D55E00"
_JOINED = 4  # bins of a file in one of a figure


def similarities(material: Material) -> Section:
    """Return a histogram a row."""
    rows = [row for row in material.rows if row.queries]
    if not rows:
        return Section("similarities", "Similarities", [Note("Not recorded by these runs.")])
    blocks: list[Block] = [
        Note(
            "Cosine similarities of test captions with all test images, over all seeds: solid blue "
            "outline, images of the person; dashed orange and hatched, images of others. Each "
            "area is 1. The score below is how often a right image is more similar to a caption "
            "than a wrong one, over all pairs of the split: it does not see that scores of two "
            "captions need not compare."
        ),
        Figures([_histogram(row, _range(rows)) for row in rows]),
    ]
    if len(rows) < len(material.rows):
        names = "; ".join(row.name for row in material.rows if not row.queries)
        blocks.append(Note(f"Not recorded by these runs: {names}."))
    return Section("similarities", "Similarities", blocks)


def _range(rows: Sequence[Row]) -> tuple[float, float]:
    """Return the similarities between which all but a thousandth of the pairs of a row lie."""
    low, high = 1.0, -1.0
    for row in rows:
        edges, positives, negatives = _counts(row)
        for counts in (positives, negatives):
            share = np.cumsum(counts) / max(counts.sum(), 1)
            low = min(low, edges[int(np.searchsorted(share, 0.001))])
            high = max(high, edges[min(int(np.searchsorted(share, 0.999)) + 1, len(edges) - 1)])
    return low, high


def _counts(
    row: Row,
) -> tuple[Float[ndarray, " edges"], Float[ndarray, " bins"], Float[ndarray, " bins"]]:
    found = row.queries
    positives = np.sum([one.positives for one in found], axis=0).astype(np.float64)
    negatives = np.sum([one.negatives for one in found], axis=0).astype(np.float64)
    return found[0].edges, positives, negatives


def _histogram(row: Row, limits: tuple[float, float]) -> Figure:
    edges, positives, negatives = _counts(row)
    below = np.cumsum(negatives) - negatives / 2
    area = float(positives @ below / max(positives.sum() * negatives.sum(), 1))
    with drawing(0.72 * WIDTH, 2.1) as drawn:
        axes = drawn.add_subplot()
        for counts, colour, line, hatch in (
            (negatives, _WRONG, "--", "////"),
            (positives, _RIGHT, "-", None),
        ):
            height, places = _density(counts, edges)
            axes.stairs(height, places, color=colour, alpha=0.22, fill=True, hatch=hatch, lw=0)
            axes.stairs(height, places, color=colour, linestyle=line, linewidth=1.4)
        axes.set(xlim=limits, yticks=[], xlabel="similarity")
        axes.spines["left"].set_visible(False)
        title = f"{row.name}: {100 * area:.1f} %"
        return figure(
            drawn,
            f"Similarities of {row.name}: a right pair above a wrong one in {100 * area:.1f} %",
            title,
        )


def _density(
    counts: Float[ndarray, " bins"], edges: Float[ndarray, " edges"]
) -> tuple[Float[ndarray, " joined"], Float[ndarray, " places"]]:
    whole = len(counts) // _JOINED * _JOINED
    joined = counts[:whole].reshape(-1, _JOINED).sum(1)
    places = edges[: whole + 1 : _JOINED]
    return joined / max(joined.sum(), 1) / np.diff(places), places
