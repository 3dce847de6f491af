"""The best of a matrix of vectors: a fast product finds candidates, exact scores order them."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tireid.retrieval.similarity import unit_vectors

_SPARE = 200  # candidates beyond k, since the fast product rounds
_BLOCK_VALUES = 2**25  # scores at once: 128 MiB
_LARGE_BYTES = 2**30  # beyond this, a matrix is held in float16


class Best(NamedTuple):
    """The best rows of one query, best first.

    Attributes:
        positions: Rows of the matrix.
        scores: Their cosine similarities.
    """

    positions: list[int]
    scores: list[float]


def matrix_dtype(rows: int, dim: int) -> torch.dtype:
    """Return the type to hold a matrix in: float32, or float16 if that takes over 1 GiB."""
    return torch.float32 if rows * dim * 4 <= _LARGE_BYTES else torch.float16


def best_rows(
    queries: Float[Tensor, "query dim"],
    matrix: Float[Tensor, "rows dim"],
    k: int,
    allowed: Bool[Tensor, " rows"] | None = None,
) -> list[Best]:
    """Return the `k` rows of highest cosine similarity to each query.

    Args:
        queries: Of unit norm.
        matrix: Vectors of nearly unit norm.
        k: At least 1; fewer are found if fewer are allowed.
        allowed: The rows that may be found; None: all.
    """
    total = len(matrix) if allowed is None else int(allowed.sum())
    k = min(k, total)
    if k == 0:
        return [Best([], []) for _ in queries]
    wide = min(total, k + _SPARE)
    found: list[Best] = []
    for block in queries.split(max(1, _BLOCK_VALUES // len(matrix))):
        scores = block.to(matrix.dtype) @ matrix.mT
        if allowed is not None:
            scores.masked_fill_(~allowed, -torch.inf)
        candidates = scores.topk(wide, sorted=False).indices.sort().values
        found += [_ordered(q, c, matrix, k) for q, c in zip(block, candidates, strict=True)]
    return found


def _ordered(
    query: Float[Tensor, " dim"],
    candidates: Int[Tensor, " wide"],
    matrix: Float[Tensor, "rows dim"],
    k: int,
) -> Best:
    """Return the best of some rows by similarities that do not depend on the order of sums."""
    exact = unit_vectors(matrix[candidates]) @ unit_vectors(query[None])[0]
    scores, order = exact.sort(descending=True, stable=True)
    return Best(candidates[order[:k]].tolist(), scores[:k].tolist())
