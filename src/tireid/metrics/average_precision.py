"""Average precision, by the two rules in use."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def average_precision(ranks: Int[Tensor, "query positives"]) -> Float[Tensor, " query"]:
    """Average the precision at the ranks of a query's positives: (1/n) sum_i i / r_i.

    Args:
        ranks: One row per query, as `tireid.metrics.ranks` describes them.

    Returns:
        In (0, 1] per query, float64; NaN for a query without a positive.

    Example:
        >>> average_precision(torch.tensor([[1, 3]]))
        tensor([0.8333], dtype=torch.float64)
    """
    return _mean_over_positives(_position(ranks) / ranks, ranks)


def average_precision_trapezoid(ranks: Int[Tensor, "query positives"]) -> Float[Tensor, " query"]:
    """Average the precisions at and just before the ranks of a query's positives.

    (1/n) sum_i (i / r_i + p_i) / 2 with p_i = (i - 1) / (r_i - 1), and p_i = 1 where r_i = 1. The
    code of SSAN, MANet and LGUR uses this rule; it is never higher than `average_precision`.

    Args:
        ranks: One row per query, as `tireid.metrics.ranks` describes them.

    Returns:
        In (0, 1] per query, float64; NaN for a query without a positive.

    Source:
        https://github.com/ZhiyinShao-H/LGUR/blob/e163f138cb54e03f9c8a9dbdd1ad3ed1a4e08713/test_during_train.py#L64-L75

    Example:
        >>> average_precision_trapezoid(torch.tensor([[1, 3]]))
        tensor([0.7917], dtype=torch.float64)
    """
    position = _position(ranks)
    before = torch.where(ranks == 1, 1.0, (position - 1) / (ranks - 1))
    return _mean_over_positives((position / ranks + before) / 2, ranks)


def _position(ranks: Int[Tensor, "query positives"]) -> Float[Tensor, " positives"]:
    return torch.arange(1, ranks.shape[1] + 1, device=ranks.device, dtype=torch.float64)


def _mean_over_positives(
    values: Float[Tensor, "query positives"], ranks: Int[Tensor, "query positives"]
) -> Float[Tensor, " query"]:
    positive = ranks > 0
    values = values.masked_fill(~positive, 0.0)
    # One after the other: a plain sum groups its terms by the number of columns, so that the last
    # digit of a query would depend on the queries it shares a block with.
    total = values.cumsum(dim=1)[:, -1] if ranks.shape[1] else values.sum(dim=1)
    return total / positive.sum(dim=1)
