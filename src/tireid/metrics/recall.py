"""Recall at k."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def recall_at_k(ranks: Int[Tensor, "query positives"], k: int) -> Float[Tensor, " query"]:
    """Tell for each query whether a positive is among its first k.

    Args:
        ranks: One row per query, as `tireid.metrics.ranks` describes them.
        k: At least 1; may exceed the gallery.

    Returns:
        1 or 0 per query, float64; NaN for a query without a positive.

    Raises:
        ValueError: If k is below 1.

    Example:
        >>> recall_at_k(torch.tensor([[2, 7], [6, 0]]), k=5)
        tensor([1., 0.], dtype=torch.float64)
    """
    if k < 1:
        raise ValueError(f"expected k of at least 1, got {k}")
    positive = ranks > 0
    hit = (positive & (ranks <= k)).any(dim=1).to(torch.float64)
    return hit.masked_fill(~positive.any(dim=1), torch.nan)
