"""The value of every metric for every query, and their means over a split."""

import warnings
from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tireid.metrics.names import METRICS, WITHOUT_OWN_IMAGE
from tireid.metrics.ranks import PositiveRanks, drop_ranks


def query_values(
    ranked: PositiveRanks, paired: Int[Tensor, " query"] | None = None
) -> dict[str, Float[Tensor, " query"]]:
    """Compute every metric of every query, to be joined over blocks, averaged or bootstrapped.

    Args:
        ranked: The ranks of each query's positives.
        paired: Gallery index of the query's own image, -1 where it is not in the gallery.

    Returns:
        The values behind the keys of `retrieval_metrics`, as fractions, float64. NaN marks a
        query that has no positive and is left out.
    """
    ranks, positives = ranked
    values = {key: metric.of_ranks(ranks) for key, metric in METRICS.items()}
    if paired is not None:
        others = drop_ranks(ranks, (ranks > 0) & (positives == paired[:, None]))
        values |= {
            f"{key}{WITHOUT_OWN_IMAGE}": metric.of_ranks(others)
            for key, metric in METRICS.items()
            if metric.without_own_image
        }
    return values


def block_values(
    blocks: Iterable[tuple[slice, PositiveRanks]], paired: Int[Tensor, " query"] | None
) -> dict[str, Float[Tensor, " query"]]:
    """Compute `query_values` of ranks that come in blocks of consecutive queries."""
    values = [
        query_values(ranked, None if paired is None else paired[rows]) for rows, ranked in blocks
    ]
    return join_values(values)


def join_values(blocks: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Concatenate the values of consecutive blocks of queries."""
    return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}


def mean_percent(values: dict[str, Float[Tensor, " query"]]) -> dict[str, float]:
    """Average each metric over the queries that it does not leave out, in percent.

    Args:
        values: As `query_values` returns them.

    Returns:
        One mean per key. If no query keeps a positive beside its own image, `*_wm` are NaN.

    Warns:
        UserWarning: With the number of queries that have no positive and are left out.

    Raises:
        ValueError: If no query has a positive.

    Example:
        >>> mean_percent({"R1": torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)})
        {'R1': 75.0}
    """
    queries = len(next(iter(values.values())))
    missing = {name: int(value.isnan().sum()) for name, value in values.items()}
    without_own = {name: missing.pop(name) for name in values if name.endswith(WITHOUT_OWN_IMAGE)}
    left_out = max(missing.values())  # the same for all of them
    if left_out == queries:
        raise ValueError(
            f"expected queries whose identity is in the gallery, got none among {queries}; "
            "check that queries and gallery are of the same split"
        )
    if left_out:
        warnings.warn(
            f"{left_out} of {queries} queries have no positive in the gallery and are left "
            "out of every mean",
            stacklevel=3,
        )
    if queries in without_own.values():
        warnings.warn(
            "no query has a positive beside its own image: metrics ending in _wm are NaN",
            stacklevel=3,
        )
    return {name: 100.0 * float(value[~value.isnan()].mean()) for name, value in values.items()}
