"""Histograms of the similarities of matching and other pairs."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from tireid.comparison.report.blocks import Block, Figure, Figures, Note, Section
from tireid.comparison.report.loading import Comparison, Row
from tireid.comparison.report.style import WIDTH, drawing, figure
from tireid.figures import draw_similarities


def similarities(comparison: Comparison) -> Section:
    """Return a histogram for each row."""
    rows = [row for row in comparison.rows if row.queries]
    if not rows:
        return Section("similarities", "Similarities", [Note("Not recorded by these runs.")])
    blocks: list[Block] = [
        Note(
            "Cosine similarities of test captions and test images, over all seeds. Solid blue: "
            "images of the described identity. Dashed orange, hatched: images of other identities. "
            "Each area is 1. The percentage below is the AUC: the probability that a matching pair "
            "is more similar than another pair, over all captions, although the scores of "
            "different captions need not be comparable."
        ),
        Figures([_histogram(row, _range(rows)) for row in rows]),
    ]
    if len(rows) < len(comparison.rows):
        names = "; ".join(row.name for row in comparison.rows if not row.queries)
        blocks.append(Note(f"Not recorded by these runs: {names}."))
    return Section("similarities", "Similarities", blocks)


def _range(rows: Sequence[Row]) -> tuple[float, float]:
    """Return limits between which all but a thousandth of the similarities of each row lie."""
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
    positives = np.sum([one.positives for one in row.queries], axis=0).astype(np.float64)
    negatives = np.sum([one.negatives for one in row.queries], axis=0).astype(np.float64)
    return row.queries[0].edges, positives, negatives


def _histogram(row: Row, limits: tuple[float, float]) -> Figure:
    edges, positives, negatives = _counts(row)
    below = np.cumsum(negatives) - negatives / 2
    area = float(positives @ below / max(positives.sum() * negatives.sum(), 1))
    with drawing(0.72 * WIDTH, 2.1) as drawn:
        axes = drawn.add_subplot()
        draw_similarities(axes, edges, positives, negatives)
        axes.set(xlim=limits, yticks=[], xlabel="similarity")
        axes.spines["left"].set_visible(False)
        title = f"{row.name}: {100 * area:.1f} %"
        return figure(drawn, f"Similarities of {row.name}: AUC {100 * area:.1f} %", title)
