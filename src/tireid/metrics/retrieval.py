"""Retrieval metrics of a similarity matrix."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tireid.metrics.identities import as_tensor, check_identities
from tireid.metrics.ranks import rank_positives
from tireid.metrics.values import block_values, mean_percent

_ROWS = 128  # similarity rows ranked at once


def retrieval_metrics(
    similarity: Float[Tensor | np.ndarray, "query gallery"],
    query_pids: Int[Tensor | np.ndarray, " labels"],
    gallery_pids: Int[Tensor | np.ndarray, " gallery_labels"],
    *,
    paired: Int[Tensor | np.ndarray, " pairs"] | None = None,
) -> dict[str, float]:
    """Compute R@k, mAP and mINP of a similarity matrix, in percent.

    Ties are pessimistic: a negative as similar as a positive ranks before it. A gallery may be
    smaller than k. For embeddings of a whole split use `tireid.retrieval.evaluate_embeddings`,
    which never holds the matrix.

    Args:
        similarity: Text rows, image columns; higher is closer. Ranked in float32 or better.
        query_pids: Identity of each row, any integers.
        gallery_pids: Identity of each column; every image once.
        paired: Column of each caption's own image, -1 where it is not in the gallery. If given,
            metrics "without the matching image" are added: each query's own image is taken out of
            its gallery, and queries left with no positive are left out.

    Returns:
        Every metric of `tireid.metrics.names.METRICS` by its key, and with `paired` also metrics
        without the matching image, as `R1_wm`; 0 to 100, or NaN for `*_wm` if no query is left.

    Warns:
        UserWarning: With the number of queries left out because they have no positive.

    Raises:
        ValueError: If no query has a positive, if similarities are NaN or infinite, if shapes do
            not fit together, or if `paired` contradicts the identities.

    Example:
        >>> similarity = torch.tensor([[0.9, 0.8, 0.1], [0.7, 0.2, 0.6]])
        >>> metrics = retrieval_metrics(similarity, torch.tensor([1, 2]), torch.tensor([1, 2, 2]))
        >>> {name: round(metrics[name], 1) for name in ("R1", "R5", "mAP", "mINP")}
        {'R1': 50.0, 'R5': 100.0, 'mAP': 79.2, 'mINP': 83.3}
    """
    matrix = as_tensor(similarity, "similarity").detach()
    if matrix.ndim != 2:
        raise ValueError(f"expected a similarity of two axes, got shape {tuple(matrix.shape)}")
    matrix = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    query, items, own_image = check_identities(
        query_pids, gallery_pids, paired, queries=matrix.shape[0], gallery=matrix.shape[1]
    )
    broken = ~matrix.isfinite()
    if broken.any():
        raise ValueError(
            f"similarity has NaN or Inf in {int(broken.any(dim=1).sum())} of {len(matrix)} query "
            f"rows and {int(broken.any(dim=0).sum())} of {matrix.shape[1]} gallery columns"
        )
    query, items = query.to(matrix.device), items.to(matrix.device)
    own_image = None if own_image is None else own_image.to(matrix.device)
    rows = [slice(start, start + _ROWS) for start in range(0, len(matrix), _ROWS)]
    blocks = ((block, rank_positives(matrix[block], query[block], items)) for block in rows)
    return mean_percent(block_values(blocks, own_image))
