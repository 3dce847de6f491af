"""Test whether one method is better than another on the same queries: a paired bootstrap."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from tireid.retrieval.query_results import QueryResults

_BATCH = 200  # resamples at a time, to bound the memory


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference between a second method and a first one.

    Attributes:
        mean: Difference of the means over queries and seeds, in percentage points.
        low: Lower end of the confidence interval.
        high: Upper end of the confidence interval.
        queries: Number of queries that both methods rank.
        identities: Number of identities among these queries.
        seeds: Number of runs of the first and of the second method.
    """

    mean: float
    low: float
    high: float
    queries: int
    identities: int
    seeds: tuple[int, int]

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def paired_difference(
    first: Sequence[QueryResults],
    second: Sequence[QueryResults],
    metric: str = "mAP",
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Compare two methods query by query, with a percentile bootstrap interval.

    A resample draws identities with replacement, each with all its captions, because the captions
    of an identity are easy or hard together; and it draws seeds of each method. So the interval
    accounts for other identities of this kind and, as far as the given seeds show it, for other
    runs: with one seed per method, for other identities only.

    Args:
        first: Runs of the first method, one per seed.
        second: Runs of the second method, on the same queries.
        metric: A name in `QueryResults.values`.
        confidence: Share of the resamples inside the interval.
        resamples: Number of resamples.
        seed: Seed of the resampling.

    Raises:
        ValueError: If a method has no run, the queries differ, or the metric is missing.
    """
    runs = [*first, *second]
    if not first or not second:
        raise ValueError(f"expected runs of two methods, got {len(first)} and {len(second)}")
    _check(runs, metric)
    ranked = ~np.isnan([run.values[metric] for run in runs]).any(axis=0)
    pids, identity = np.unique(runs[0].pids[ranked], return_inverse=True)
    if not len(pids):
        raise ValueError(f"{metric}: expected queries that both methods rank, got none")
    count = np.bincount(identity).astype(np.float64)
    sums = [
        np.stack([np.bincount(identity, run.values[metric][ranked]) for run in side])
        for side in (first, second)
    ]
    drawn = _resampled(sums[0], sums[1], count, resamples, np.random.default_rng(seed))
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    mean = (sums[1].sum(1).mean() - sums[0].sum(1).mean()) / count.sum()
    return Difference(
        mean=100 * float(mean),
        low=100 * float(low),
        high=100 * float(high),
        queries=int(ranked.sum()),
        identities=len(pids),
        seeds=(len(first), len(second)),
    )


def _check(runs: Sequence[QueryResults], metric: str) -> None:
    for run in runs:
        if metric not in run.values:
            raise ValueError(f"expected one of {', '.join(run.values)}, got {metric!r}")
        if not np.array_equal(run.pids, runs[0].pids):
            raise ValueError(
                f"expected runs tested on the same queries, got {len(runs[0].pids)} and "
                f"{len(run.pids)} queries of other identities or in another order"
            )


def _resampled(
    first: Float[ndarray, "seed identity"],
    second: Float[ndarray, "other_seed identity"],
    count: Float[ndarray, " identity"],
    resamples: int,
    rng: np.random.Generator,
) -> Float[ndarray, " resample"]:
    """Return the difference of the means in each resample, as a fraction."""

    def draws(size: int, number: int) -> Float[ndarray, "resample item"]:
        return rng.multinomial(number, np.full(number, 1 / number), size).astype(np.float64)

    differences = []
    for start in range(0, resamples, _BATCH):
        size = min(_BATCH, resamples - start)
        identities = draws(size, len(count))
        queries = identities @ count
        means = [
            (identities @ side.T * draws(size, len(side))).sum(1) / len(side) / queries
            for side in (first, second)
        ]
        differences.append(means[1] - means[0])
    return np.concatenate(differences)
