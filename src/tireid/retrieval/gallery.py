"""A gallery prepared on a CPU: exact unit vectors, and float32 ones for fast products."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from tireid.retrieval.similarity import check_embeddings, rounded_error, unit_vectors

_CHUNK = 2**28  # bytes of prepared gallery at a time
_SCORES = 2**26  # bytes of similarities at a time
_SLICE = 64  # values of an embedding that are multiplied at a time
_TEXTS = 32  # texts from which on slices take hardly more time than the whole
_TILE = 1024  # images at a time, in slices
_PAIRS = 2**21  # bytes of gathered vectors at a time: they fit a cache


class UnitVectors:
    """Embeddings of one side as unit vectors.

    Attributes:
        exact: Multiples of 2**-26, float64: any order of summing their products is exact.
        rounded: The same, rounded to float32.
    """

    def __init__(self, embeddings: Float[Tensor, "batch dim"]) -> None:
        self.exact: Float[ndarray, "batch dim"] = unit_vectors(embeddings).numpy()

    @cached_property
    def rounded(self) -> Float[ndarray, "batch dim"]:
        """Round the vectors, once."""
        return self.exact.astype(np.float32)


class Block(NamedTuple):
    """Similarities of some texts to some consecutive images.

    Attributes:
        rows: Which texts.
        first: Position in the gallery of the first image.
        texts: The unit vectors of the texts.
        images: The unit vectors of the images.
        similarity: Cosine similarities, off by at most `error`: float32, or float64 and exact.
        error: What rounding may have changed.
    """

    rows: slice
    first: int
    texts: UnitVectors
    images: UnitVectors
    similarity: Float[ndarray, "block images"]
    error: float

    def exact(self) -> "Block":
        """Compute the similarities of all pairs anew, exactly."""
        return self._replace(similarity=product(self.texts.exact, self.images.exact), error=0.0)

    def exact_pairs(
        self, rows: Int[ndarray, " pairs"], columns: Int[ndarray, " pairs"]
    ) -> Float[ndarray, " pairs"]:
        """Compute the exact similarities of pairs, float64.

        Args:
            rows: Row of each pair in the block.
            columns: Column of each pair in the block.
        """
        scores = np.empty(len(rows))
        step = max(_PAIRS // (16 * self.texts.exact.shape[1]), 1)
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            texts, images = self.texts.exact[rows[part]], self.images.exact[columns[part]]
            scores[part] = np.einsum("pd,pd->p", texts, images)
        return scores


class Gallery:
    """A gallery in chunks of bounded size; a small one is prepared once, for all its queries.

    Args:
        images: Embeddings, finite, on a CPU; need not be normalised.
        keep: Whether to check and prepare all of it at once, whatever its size, for many calls;
            takes 12 bytes a value.

    Raises:
        ValueError: With `keep`, if the embeddings are not of two axes, empty, NaN or infinite.

    Attributes:
        exact: Whether `blocks` computes exact products, for twice the time. May be set between two
            blocks, where rounding leaves too much open.
    """

    def __init__(self, images: Float[Tensor, "gallery dim"], *, keep: bool = False) -> None:
        if keep:
            check_embeddings(images, images, block_size=1)
        self.images = images
        self.exact = False
        self._chunk = len(images) if keep else max(_CHUNK // (12 * images.shape[1]), 1)
        self._whole = UnitVectors(images) if len(images) <= self._chunk else None

    def chunks(self) -> Iterator[tuple[int, UnitVectors]]:
        """Yield the position of each chunk's first image, and its unit vectors."""
        for first in range(0, len(self.images), self._chunk):
            yield first, self._whole or UnitVectors(self.images[first : first + self._chunk])

    def blocks(self, texts: Float[Tensor, "query dim"], block_size: int) -> Iterator[Block]:
        """Yield the similarities of all texts to the first chunk, then to the next.

        Args:
            texts: Finite, of the same width.
            block_size: Texts at a time, fewer where the chunk is large.
        """
        for first, images in self.chunks():
            step = min(block_size, max(_SCORES // (4 * len(images.exact)), 1))
            for start in range(0, len(texts), step):
                rows = slice(start, min(start + step, len(texts)))
                vectors = UnitVectors(texts[rows].cpu())
                if self.exact:
                    similarity, error = product(vectors.exact, images.exact), 0.0
                else:
                    similarity, error = rounded_product(vectors, images)
                yield Block(rows, first, vectors, images, similarity, error)


def rounded_product(
    texts: UnitVectors, images: UnitVectors
) -> tuple[Float[ndarray, "block images"], float]:
    """Multiply all texts with all images in float32, and bound the error.

    Args:
        texts: Unit vectors.
        images: Of the same width.
    """
    dim = images.rounded.shape[1]
    if len(texts.rounded) < _TEXTS:
        return product(texts.rounded, images.rounded), rounded_error(dim, dim)
    similarity = sliced_product(texts.rounded, images.rounded, _SLICE)
    return similarity, rounded_error(dim, _SLICE)


def product(
    texts: Float[ndarray, "block dim"], images: Float[ndarray, "images dim"]
) -> Float[ndarray, "block images"]:
    """Multiply all texts with all images, in their own precision.

    On torch's threads, since NumPy's would wait for work beside them. oneDNN is left out: where a
    global setting allows it, it rounds float32 factors to bfloat16.
    """
    with _without_onednn():
        return (torch.as_tensor(texts) @ torch.as_tensor(images).mT).numpy()


def sliced_product(
    texts: Float[ndarray, "block dim"], images: Float[ndarray, "images dim"], width: int
) -> Float[ndarray, "block images"]:
    """Multiply as `product` does, slices of the embeddings by themselves: fewer errors add up.

    Args:
        texts: Unit vectors.
        images: Unit vectors.
        width: Width of a slice, at least 1.
    """
    rows, columns = torch.as_tensor(texts), torch.as_tensor(images).mT
    result = torch.empty(len(texts), len(images), dtype=rows.dtype)
    with _without_onednn():
        for first in range(0, len(images), _TILE):  # which fits a cache with its next slice
            tile = result[:, first : first + _TILE]
            own = columns[:, first : first + _TILE]
            torch.mm(rows[:, :width], own[:width], out=tile)
            part = torch.empty_like(tile)
            for start in range(width, texts.shape[1], width):
                end = start + width
                tile += torch.mm(rows[:, start:end], own[start:end], out=part)
    return result.numpy()


def _without_onednn() -> AbstractContextManager[None]:
    kept: dict[str, Any] = dict.fromkeys(("deterministic", "allow_tf32", "fp32_precision"))
    return torch.backends.mkldnn.flags(enabled=False, **kept)
