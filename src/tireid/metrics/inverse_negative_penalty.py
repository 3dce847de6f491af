"""Inverse negative penalty, whose mean is mINP."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def inverse_negative_penalty(ranks: Int[Tensor, "query positives"]) -> Float[Tensor, " query"]:
    """Divide a query's number of positives by the rank of its last one: n / r_n.

    Args:
        ranks: One row per query, as `tireid.metrics.ranks` describes them.

    Returns:
        In (0, 1] per query, float64; NaN for a query without a positive.

    Source:
        Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook" (AGW),
        TPAMI 2021, section 4.1.

    Example:
        >>> inverse_negative_penalty(torch.tensor([[1, 4], [5, 0]]))
        tensor([0.5000, 0.2000], dtype=torch.float64)
    """
    count = (ranks > 0).sum(dim=1).to(torch.float64)
    hardest = torch.nn.functional.pad(ranks, (1, 0)).amax(dim=1)  # one column at the least
    return count / hardest
