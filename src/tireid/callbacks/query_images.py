"""Choose queries of a split to look at, and draw what a model retrieves for them."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from tireid.figures import draw_similarities, own_style
from tireid.retrieval.query_results import QueryResults


class Query(NamedTuple):
    """A query and why it is shown.

    Attributes:
        kind: `best hit`, `worst miss` or `at random`.
        number: Position of the query in the split.
    """

    kind: str
    number: int


def interesting_queries(results: QueryResults, count: int) -> list[Query]:
    """Return the best hits, the worst misses, and queries drawn at random, always the same.

    A hit's best image is right. Hits are ordered by average precision, then by the margin to the
    best wrong image; misses by the rank of their first right image. Queries drawn at random may be
    among the others too.

    Args:
        results: Results of the split.
        count: Queries of each kind, at most.
    """
    rank = results.first_rank.astype(np.int64)
    ranked = np.flatnonzero(rank > 0)
    precision = np.nan_to_num(results.values["mAP"])
    hits = ranked[rank[ranked] == 1]
    hits = hits[np.lexsort((hits, -_margin(results)[hits], -precision[hits]))]
    misses = ranked[rank[ranked] > 1]
    misses = misses[np.lexsort((misses, precision[misses], -rank[misses]))]
    total = len(rank)
    drawn = np.random.default_rng(0).choice(total, min(count, total), replace=False)
    return [
        Query(kind, int(number))
        for kind, numbers in (
            ("best hit", hits[:count]),
            ("worst miss", misses[:count]),
            ("at random", drawn),
        )
        for number in numbers
    ]


def _margin(results: QueryResults) -> np.ndarray:
    """Return how far each query's best wrong image is behind its best, among the stored ones."""
    wrong = np.where(results.right, -np.inf, results.scores).max(axis=1)
    last = results.scores[:, -1]
    return results.scores[:, 0] - np.where(np.isfinite(wrong), wrong, last)


@own_style()
def similarity_plot(results: QueryResults) -> Image.Image:
    """Return a plot of the distributions of similarity of positive and of negative pairs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    draw_similarities(axes, results.edges, results.positives, results.negatives)
    used = np.flatnonzero(results.positives + results.negatives)
    if len(used):
        axes.set_xlim(float(results.edges[used[0]]), float(results.edges[used[-1] + 1]))
    axes.set(
        title="Similarity of a caption with an image",
        xlabel="cosine similarity",
        ylabel="density of pairs",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file, formats=("PNG",)).convert("RGB")
