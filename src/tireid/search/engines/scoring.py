"""The best of a matrix of vectors: a fast product finds candidates, exact scores order them."""

import time
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tireid.retrieval.similarity import unit_vectors

_SPARE = 500  # candidates beyond k, since the fast product rounds
_BLOCK_VALUES = 2**25  # scores at once: 128 MiB
_LARGE_BYTES = 2**30  # beyond this, a matrix is held in float16
_SAMPLE, _TRIALS = 8192, 3  # rows and repetitions of a measurement


class Best(NamedTuple):
    """The best rows of one query, best first.

    Attributes:
        positions: Rows of the matrix.
        scores: Their cosine similarities.
    """

    positions: list[int]
    scores: list[float]


def matrix_dtype(rows: int, dim: int, storage: str) -> torch.dtype:
    """Return the type to hold a matrix in.

    Args:
        rows: Number of vectors.
        dim: Their width.
        storage: How they are kept.

    Returns:
        float16 where float32 would take over 1 GiB, or where float16 is what is kept and this CPU
        multiplies it faster (measured); else float32.
    """
    large = rows * dim * torch.float32.itemsize > _LARGE_BYTES
    worth = storage == "float16" and rows >= _SAMPLE
    return torch.float16 if large or (worth and _half_is_faster(dim)) else torch.float32


def _half_is_faster(dim: int) -> bool:
    seconds: list[float] = []
    for dtype in (torch.float16, torch.float32):
        matrix, query = torch.ones(_SAMPLE, dim, dtype=dtype), torch.ones(1, dim, dtype=dtype)
        times: list[float] = []
        for _ in range(_TRIALS):
            began = time.perf_counter()
            _ = query @ matrix.mT
            times.append(time.perf_counter() - began)
        seconds.append(min(times))
    return seconds[0] < seconds[1]


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
