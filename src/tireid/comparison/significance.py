"""Is one method better than another on the same queries, or could it be chance?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from tireid.retrieval.query_results import QueryResults

_AT_ONCE = 200  # resamples; bounds the memory to this many rows of people


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better the second method is than the first.

    Attributes:
        metric: Its name, such as `R1`.
        mean: Difference of the means over queries and seeds, in percent points.
        low: Lower end of its confidence interval.
        high: Upper end.
        queries: Queries that both rank.
        people: Identities that those ask for.
        seeds: Runs of the first and of the second method.
    """

    metric: str
    mean: float
    low: float
    high: float
    queries: int
    people: int
    seeds: tuple[int, int]

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
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
    """Compare two methods query by query, with a bootstrap confidence interval.

    Each resample draws people with replacement, each with all their captions, since the captions
    of one person are easy or hard together; and it draws seeds of each method. So the interval
    covers other people of this kind and other runs of these methods, as far as the given seeds
    show how runs differ: with one seed a method, it covers other people only. It is the percentile
    interval.

    Args:
        first: Runs of one method, one a seed.
        second: Runs of the other, on the same queries.
        metric: A name in `QueryResults.values`.
        confidence: Share of the resamples inside the interval.
        resamples: Number of resamples.
        seed: Of the resampling.

    Raises:
        ValueError: If a side has no run, runs are not of the same queries, or lack the metric.
    """
    runs = [*first, *second]
    if not first or not second:
        raise ValueError(f"expected runs of two methods, got {len(first)} and {len(second)}")
    for run in runs:
        if metric not in run.values:
            raise ValueError(f"expected one of {', '.join(run.values)}, got {metric!r}")
        if not np.array_equal(run.pids, runs[0].pids):
            raise ValueError(
                f"expected runs tested on the same queries, got {len(runs[0].pids)} and "
                f"{len(run.pids)} queries of other people or in another order"
            )
    ranked = ~np.isnan([run.values[metric] for run in runs]).any(axis=0)
    people, person = np.unique(runs[0].pids[ranked], return_inverse=True)
    if not len(people):
        raise ValueError(f"{metric}: expected queries that both methods rank, got none")
    count = np.bincount(person).astype(np.float64)
    sums = [
        np.stack([np.bincount(person, run.values[metric][ranked]) for run in side])
        for side in (first, second)
    ]
    drawn = _resampled(sums[0], sums[1], count, resamples, np.random.default_rng(seed))
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    mean = (sums[1].sum(1).mean() - sums[0].sum(1).mean()) / count.sum()
    return Difference(
        metric=metric,
        mean=100 * float(mean),
        low=100 * float(low),
        high=100 * float(high),
        queries=int(ranked.sum()),
        people=len(people),
        seeds=(len(first), len(second)),
    )


def _resampled(
    first: Float[ndarray, "seed person"],
    second: Float[ndarray, "other_seed person"],
    count: Float[ndarray, " person"],
    resamples: int,
    rng: np.random.Generator,
) -> Float[ndarray, " resample"]:
    """Return the difference of the means in each resample, as fractions."""

    def draws(size: int, number: int) -> Float[ndarray, "resample item"]:
        return rng.multinomial(number, np.full(number, 1 / number), size).astype(np.float64)

    found = []
    for start in range(0, resamples, _AT_ONCE):
        size = min(_AT_ONCE, resamples - start)
        people = draws(size, len(count))
        queries = people @ count
        means = [
            (people @ side.T * draws(size, len(side))).sum(1) / len(side) / queries
            for side in (first, second)
        ]
        found.append(means[1] - means[0])
    return np.concatenate(found)
