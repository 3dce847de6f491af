"""All retrieval metrics of a block of queries, and their means over a split."""

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tireid.metrics.average_precision import average_precision, average_precision_trapezoid
from tireid.metrics.inverse_negative_penalty import inverse_negative_penalty
from tireid.metrics.ranks import drop_ranks, rank_positives
from tireid.metrics.recall import recall_at_k

_ROWS = 128  # similarity rows ranked at once


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


def check_identities(
    query_pids: Int[Tensor, " query"],
    gallery_pids: Int[Tensor, " gallery"],
    paired: Int[Tensor, " query"] | None,
    *,
    queries: int,
    gallery: int,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check labels against the sizes of both sides, and hand them over as int64 tensors.

    Args:
        query_pids: Identity of each query.
        gallery_pids: Identity of each gallery item.
        paired: Gallery index of each query's own image, -1 where the gallery has not got it.
        queries: Number of queries expected.
        gallery: Number of gallery items expected.

    Returns:
        The three, `paired` as None if it was None.

    Raises:
        ValueError: If a side is empty, lengths differ, a type is not an integer, `paired` points
            outside the gallery, or at an image of another identity.
    """
    if not queries or not gallery:
        raise ValueError(
            f"expected at least one query and one gallery item, got {queries} and {gallery}"
        )
    query = _integers(query_pids, "query_pids", queries)
    items = _integers(gallery_pids, "gallery_pids", gallery)
    if paired is None:
        return query, items, None
    own = _integers(paired, "paired", queries)
    outside = int(((own < -1) | (own >= gallery)).sum())
    if outside:
        raise ValueError(
            f"expected paired to hold gallery indices 0 .. {gallery - 1}, or -1 for an image that "
            f"is not in the gallery, got {outside} others, the first being "
            f"{int(own[(own < -1) | (own >= gallery)][0])}"
        )
    foreign = int(((own >= 0) & (items[own] != query.to(items.device))).sum())
    if foreign:
        raise ValueError(
            f"expected each query and its paired image to show one identity, got {foreign} of "
            f"{queries} pairs with two; check that paired indexes this gallery"
        )
    return query, items, own


def _integers(values: Tensor, name: str, length: int) -> Tensor:
    tensor = torch.as_tensor(values)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise ValueError(f"expected {name} to hold integers, got {tensor.dtype}")
    if tensor.shape != (length,):
        raise ValueError(f"expected {name} of shape ({length},), got {tuple(tensor.shape)}")
    return tensor.to(torch.int64)


def retrieval_metrics(
    similarity: Float[Tensor, "query gallery"],
    query_pids: Int[Tensor, " labels"],
    gallery_pids: Int[Tensor, " gallery_labels"],
    *,
    paired: Int[Tensor, " pairs"] | None = None,
) -> dict[str, float]:
    """Compute R@k, mAP and mINP of a similarity matrix, in percent.

    Ties are pessimistic: a negative as similar as a positive ranks before it. A gallery may be
    smaller than k. For embeddings of a whole split use `tireid.retrieval.evaluate_embeddings`,
    which never holds the matrix.

    Args:
        similarity: Text rows, image columns; higher is closer. Ranked in float32 or better.
        query_pids: Identity of each row, any integers.
        gallery_pids: Identity of each column; every image once.
        paired: Column of each caption's own image, -1 where the gallery has not got it. If given,
            metrics "without the matching image" are added: each query's own image is taken out of
            its gallery, and queries left with no positive are left out.

    Returns:
        `R1 R5 R10 mAP mAP_trapezoid mINP`, and with `paired` also
        `R1_wm R5_wm R10_wm mAP_trapezoid_wm`; 0 to 100, or NaN for `*_wm` if no query is left.

    Warns:
        UserWarning: With the number of queries left out because they have no positive.

    Raises:
        ValueError: If no query has a positive, if similarities are NaN or infinite, if shapes do
            not fit together, or if `paired` contradicts the identities.

    Example:
        >>> similarity = torch.tensor([[0.9, 0.8, 0.1], [0.7, 0.2, 0.6]])
        >>> metrics = retrieval_metrics(similarity, torch.tensor([1, 2]), torch.tensor([1, 2, 2]))
        >>> {name: round(value, 1) for name, value in metrics.items()}
        {'R1': 50.0, 'R5': 100.0, 'R10': 100.0, 'mAP': 79.2, 'mAP_trapezoid': 70.8, 'mINP': 83.3}
    """
    matrix = torch.as_tensor(similarity).detach()
    if matrix.ndim != 2:
        raise ValueError(f"expected a similarity of two axes, got shape {tuple(matrix.shape)}")
    matrix = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    query, items, own = check_identities(
        query_pids, gallery_pids, paired, queries=matrix.shape[0], gallery=matrix.shape[1]
    )
    broken = ~matrix.isfinite()
    if broken.any():
        raise ValueError(
            f"similarity has NaN or Inf in {int(broken.any(dim=1).sum())} of {len(matrix)} query "
            f"rows and {int(broken.any(dim=0).sum())} of {matrix.shape[1]} gallery columns"
        )
    query, items = query.to(matrix.device), items.to(matrix.device)
    own = None if own is None else own.to(matrix.device)
    blocks = [
        query_values(
            matrix[start : start + _ROWS],
            query[start : start + _ROWS],
            items,
            None if own is None else own[start : start + _ROWS],
        )
        for start in range(0, len(matrix), _ROWS)
    ]
    return mean_percent(join_values(blocks))
