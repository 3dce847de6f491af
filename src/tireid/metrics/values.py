"""The value of every metric for every query, and their means over a split."""

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tireid.metrics.average_precision import average_precision, average_precision_trapezoid
from tireid.metrics.inverse_negative_penalty import inverse_negative_penalty
from tireid.metrics.ranks import drop_ranks, rank_positives
from tireid.metrics.recall import recall_at_k


def query_values(
    similarity: Float[Tensor, "query gallery"],
    query_pids: Int[Tensor, " query"],
    gallery_pids: Int[Tensor, " gallery"],
    paired: Int[Tensor, " query"] | None = None,
) -> dict[str, Float[Tensor, " query"]]:
    """Every metric of every query, to be joined over blocks, averaged or bootstrapped.

    Args:
        similarity: Higher is closer; finite. Checked by the callers, once for all blocks.
        query_pids: Identity of each row.
        gallery_pids: Identity of each column.
        paired: Column of the query's own image, -1 where the gallery has not got it.

    Returns:
        The values behind the keys of `retrieval_metrics`, as fractions, float64. NaN marks a
        query that a metric leaves out, for want of a positive.
    """
    ranks, positives = rank_positives(similarity, query_pids, gallery_pids)
    values = {
        "R1": recall_at_k(ranks, 1),
        "R5": recall_at_k(ranks, 5),
        "R10": recall_at_k(ranks, 10),
        "mAP": average_precision(ranks),
        "mAP_trapezoid": average_precision_trapezoid(ranks),
        "mINP": inverse_negative_penalty(ranks),
    }
    if paired is not None:
        others = drop_ranks(ranks, (ranks > 0) & (positives == paired[:, None]))
        values |= {
            "R1_wm": recall_at_k(others, 1),
            "R5_wm": recall_at_k(others, 5),
            "R10_wm": recall_at_k(others, 10),
            "mAP_trapezoid_wm": average_precision_trapezoid(others),
        }
    return values


def join_values(blocks: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Concatenate the values of consecutive blocks of queries."""
    return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}


def mean_percent(values: dict[str, Float[Tensor, " query"]]) -> dict[str, float]:
    """Means over the queries that each metric does not leave out, in percent.

    Args:
        values: As `query_values` gives them.

    Returns:
        One figure per key. If no query keeps a positive beside its own image, `*_wm` are NaN.

    Warns:
        UserWarning: With the number of queries that have no positive and are left out.

    Raises:
        ValueError: If no query has a positive.

    Example:
        >>> mean_percent({"R1": torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)})
        {'R1': 75.0}
    """
    for name, value in values.items():
        missing = int(value.isnan().sum())
        if missing == len(value) and not name.endswith("_wm"):
            raise ValueError(
                f"expected queries whose identity is in the gallery, got none among {len(value)}; "
                "check that queries and gallery are of the same split"
            )
        if missing and name == "R1":
            warnings.warn(
                f"{missing} of {len(value)} queries have no positive in the gallery and are left "
                "out of every mean",
                stacklevel=3,
            )
        if missing == len(value) and name == "R1_wm":
            warnings.warn(
                "no query has a positive beside its own image: metrics ending in _wm are NaN",
                stacklevel=3,
            )
    return {name: 100.0 * float(value[~value.isnan()].mean()) for name, value in values.items()}
