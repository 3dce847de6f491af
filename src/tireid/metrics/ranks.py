"""A block of similarities → the ranks of each query's positives.

Conventions shared by all metrics. The rank of a query's i-th best positive is i plus the number of
negatives whose similarity is at least as high: ranks are 1-based, a tied negative comes first, and
tied positives take consecutive ranks. Ranks come as one row per query, ascending, padded with 0
on the right; a row of zeros is a query without a positive.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class PositiveRanks(NamedTuple):
    """The ranks of each query's positives, and the positives that hold them.

    Attributes:
        ranks: Ascending per query, 0 where a query has fewer positives than there are columns.
        positives: The gallery index that holds each rank, -1 where the rank is 0.
    """

    ranks: Int[Tensor, "query positives"]
    positives: Int[Tensor, "query positives"]


def find_positives(
    query_pids: Int[Tensor, " query"], gallery_pids: Int[Tensor, " gallery"]
) -> Int[Tensor, "query positives"]:
    """Return the gallery indices of each query's positives, padded with -1 on the right.

    Args:
        query_pids: Identity of each query, any integers.
        gallery_pids: Identity of each gallery item, at least one item.

    Returns:
        One ascending row per query, with as many columns as any query has positives, at least one.

    Example:
        >>> find_positives(torch.tensor([5, 9, 3]), torch.tensor([3, 5, 3]))
        tensor([[ 1, -1],
                [-1, -1],
                [ 0,  2]])
    """
    sorted_pids, order = gallery_pids.sort(stable=True)
    first = torch.searchsorted(sorted_pids, query_pids)
    count = torch.searchsorted(sorted_pids, query_pids, right=True) - first
    slot = torch.arange(max(int(count.max()), 1), device=first.device)
    columns = order[(first[:, None] + slot).clamp_max(len(order) - 1)]
    return torch.where(slot < count[:, None], columns, -1)


def count_at_least(
    values: Float[Tensor, "query gallery"], thresholds: Float[Tensor, "query positives"]
) -> Int[Tensor, "query positives"]:
    """Count, row by row, the values that are not below each threshold.

    The thresholds are sorted, not the values: each value falls into a bin between two thresholds,
    and the counts are sums of bins. Time grows with the logarithm of the number of thresholds,
    memory is one integer per value.

    Args:
        values: A row may hold infinities.
        thresholds: Descending in each row.

    Returns:
        For each threshold, how many values of its row are greater or equal.

    Example:
        >>> count_at_least(torch.tensor([[0.3, 0.5, 0.9]]), torch.tensor([[1.0, 0.5, 0.1]]))
        tensor([[0, 2, 3]])
    """
    rows, bins = len(values), thresholds.shape[1] + 1
    ascending = thresholds.flip(1).contiguous()
    # Bin b holds the values that reach the b lowest thresholds of their row, and no other.
    bin_of = torch.searchsorted(ascending, values.contiguous(), right=True)
    bin_of += torch.arange(rows, device=values.device)[:, None] * bins
    histogram = torch.bincount(bin_of.flatten(), minlength=rows * bins).view(rows, bins)
    return histogram.flip(1).cumsum(1)[:, :-1]


def rank_positives(
    similarity: Float[Tensor, "query gallery"],
    query_pids: Int[Tensor, " query"],
    gallery_pids: Int[Tensor, " gallery"],
) -> PositiveRanks:
    """Rank every query's positives in the whole gallery, without sorting the gallery.

    Args:
        similarity: Higher is closer; finite.
        query_pids: Identity of each row.
        gallery_pids: Identity of each column.

    Returns:
        Ranks by the module's conventions. Positives of equal rank value stand in gallery order.

    Example:
        >>> similarity = torch.tensor([[0.9, 0.5, 0.5, 0.1]])
        >>> rank_positives(similarity, torch.tensor([1]), torch.tensor([2, 1, 2, 1])).ranks
        tensor([[3, 4]])
    """
    positives = find_positives(query_pids, gallery_pids)
    present = positives >= 0
    # Empty slots point at the row's first positive (or, without one, at any item): harmless below.
    columns = torch.where(present, positives, positives[:, :1].clamp_min(0))
    thresholds = similarity.gather(1, columns).masked_fill(~present, -torch.inf)
    thresholds, order = thresholds.sort(dim=1, descending=True, stable=True)
    negatives = similarity.scatter(1, columns, -torch.inf)
    position = torch.arange(1, positives.shape[1] + 1, device=positives.device)
    ranks = position + count_at_least(negatives, thresholds)
    return PositiveRanks(ranks.masked_fill(~present, 0), positives.gather(1, order))


def join_ranks(blocks: Sequence[PositiveRanks]) -> PositiveRanks:
    """Join the ranks of consecutive blocks of queries."""
    columns = max(block.ranks.shape[1] for block in blocks)

    def joined(parts: Iterable[Tensor], filler: int) -> Tensor:
        pad = torch.nn.functional.pad
        return torch.cat([pad(part, (0, columns - part.shape[1]), value=filler) for part in parts])

    ranks, positives = zip(*blocks, strict=True)
    return PositiveRanks(joined(ranks, 0), joined(positives, -1))


def drop_ranks(
    ranks: Int[Tensor, "query positives"], dropped: Bool[Tensor, "query positives"]
) -> Int[Tensor, "query positives"]:
    """Return the ranks after some positives are taken out of the gallery of their query.

    Args:
        ranks: As `rank_positives` gives them.
        dropped: True where the positive leaves; the others move up.

    Returns:
        The ranks of those that stay, again ascending and padded with 0 on the right.

    Example:
        >>> drop_ranks(torch.tensor([[1, 2, 5]]), torch.tensor([[False, True, False]]))
        tensor([[1, 4, 0]])
    """
    leaves = dropped | (ranks == 0)
    moved = ranks - dropped.cumsum(1)
    last = torch.iinfo(moved.dtype).max
    moved = moved.masked_fill(leaves, last).sort(dim=1).values
    return moved.masked_fill(moved == last, 0)
