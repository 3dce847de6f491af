"""The exact ranks of each query's positives on a GPU, with a gallery of any size."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tireid.metrics.ranks import (
    PositiveRanks,
    count_at_least,
    find_positives,
    rank_positives,
)
from tireid.retrieval.similarity import similarity_blocks, unit_vectors

_CHUNK = 2**29  # bytes of exact unit vectors of the gallery at a time
_RANKS = 2**22  # ranks at a time
_PAIRS = 2**24  # values of gathered vectors at a time


def ranked_on_device(
    texts: Float[Tensor, "query dim"],
    images: Float[Tensor, "gallery dim"],
    text_pids: Int[Tensor, " query"],
    image_pids: Int[Tensor, " gallery"],
    block_size: int,
) -> Iterator[tuple[slice, PositiveRanks]]:
    """Rank as `ranked_blocks` does, by exact products in float64, in bounded memory.

    Args:
        texts: Finite, any float type.
        images: Finite, of the same width.
        text_pids: Identity of each text, on the device of the images like `image_pids`.
        image_pids: Identity of each image.
        block_size: Texts at a time, fewer where the gallery is large.

    Yields:
        Which texts, and the ranks of their positives.
    """
    width = max(_CHUNK // (8 * images.shape[1]), 1)
    if len(images) <= width:
        for rows, similarity in similarity_blocks(texts, images, block_size):
            yield rows, rank_positives(similarity, text_pids[rows], image_pids)
        return
    chunks = [slice(first, first + width) for first in range(0, len(images), width)]
    most = int(np.unique(image_pids.cpu().numpy(), return_counts=True)[1].max())
    step = max(_RANKS // most, 1)
    for start in range(0, len(texts), step):
        rows = slice(start, min(start + step, len(texts)))
        positives = find_positives(text_pids[rows], image_pids)
        yield rows, _ranked(texts[rows], images, positives, chunks, block_size)


def _ranked(
    texts: Float[Tensor, "query dim"],
    images: Float[Tensor, "gallery dim"],
    positives: Int[Tensor, "query positives"],
    chunks: list[slice],
    block_size: int,
) -> PositiveRanks:
    """Count the negatives of each positive, chunk by chunk of the gallery."""
    wanted = _similarity_of_positives(texts, images, positives, chunks)
    wanted, order = wanted.sort(dim=1, descending=True, stable=True)
    positives = positives.gather(1, order)
    counts = torch.zeros_like(positives)
    for chunk in chunks:
        for rows, similarity in similarity_blocks(texts, images[chunk], block_size):
            column = positives[rows] - chunk.start
            at, slot = ((column >= 0) & (column < similarity.shape[1])).nonzero(as_tuple=True)
            similarity[at, column[at, slot]] = -torch.inf
            counts[rows] += count_at_least(similarity, wanted[rows])
    position = torch.arange(1, positives.shape[1] + 1, device=positives.device)
    return PositiveRanks((position + counts).masked_fill(positives < 0, 0), positives)


def _similarity_of_positives(
    texts: Float[Tensor, "query dim"],
    images: Float[Tensor, "gallery dim"],
    positives: Int[Tensor, "query positives"],
    chunks: list[slice],
) -> Float[Tensor, "query positives"]:
    """Return the exact similarity of each query to each of its positives, -inf where none."""
    similarity = torch.full(
        positives.shape, -torch.inf, dtype=torch.float64, device=positives.device
    )
    step = max(_PAIRS // texts.shape[1], 1)
    for chunk in chunks:
        gallery = unit_vectors(images[chunk])
        inside = (positives >= chunk.start) & (positives < chunk.start + len(gallery))
        for pairs in inside.nonzero().split(step):
            at, slot = pairs.unbind(1)
            own = unit_vectors(texts[at.to(texts.device)].to(gallery.device))
            other = gallery[positives[at, slot] - chunk.start]
            similarity[at, slot] = (own * other).sum(dim=1)
    return similarity
