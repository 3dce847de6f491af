"""The exact ranks of each query's positives, for the price of float32 products.

On a CPU a float32 product takes half the time of an exact one. Its error is bounded, so it decides
nearly all comparisons of a negative with a positive; those that it leaves open are computed
exactly. Embeddings of an untrained model leave many open: then products are exact from there on.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from tireid.metrics.ranks import PositiveRanks, find_positives
from tireid.retrieval.counting import Counted, count_reaching
from tireid.retrieval.device_ranking import ranked_on_device
from tireid.retrieval.gallery import Block, Gallery, UnitVectors

_PAIR = 100  # pairs of an exact product in the time of an exact pair by itself
_RANKS, _VECTORS = 2**22, 2**24  # ranks, and values of embeddings, kept at a time


def ranked_blocks(
    texts: Float[Tensor, "query dim"],
    images: Float[Tensor, "gallery dim"],
    text_pids: Int[Tensor, " query"],
    image_pids: Int[Tensor, " gallery"],
    block_size: int,
) -> Iterator[tuple[slice, PositiveRanks]]:
    """Rank the positives of consecutive texts in the whole gallery, exactly.

    Args:
        texts: Finite, any float type.
        images: Finite, of the same width.
        text_pids: Identity of each text, on the device of the images like `image_pids`.
        image_pids: Identity of each image.
        block_size: Texts compared with the gallery at a time.

    Yields:
        Which texts, and the ranks of their positives: the same for every block size and device.
    """
    if images.device.type != "cpu":
        yield from ranked_on_device(texts, images, text_pids, image_pids, block_size)
        return
    gallery = Gallery(images)
    most = int(np.unique(image_pids.numpy(), return_counts=True)[1].max())
    step = max(min(_RANKS // most, _VECTORS // images.shape[1]), 1)
    for start in range(0, len(texts), step):
        rows = slice(start, min(start + step, len(texts)))
        ranking = Ranking(text_pids[rows], image_pids, gallery, texts[rows])
        for block in gallery.blocks(texts[rows], block_size):
            ranking.add(block)
        yield rows, ranking.ranks()


class Ranking:
    """Counts, for each positive of each query, the negatives that are at least as similar.

    Args:
        text_pids: Identity of each query.
        image_pids: Identity of each image of the gallery.
        gallery: The gallery.
        texts: Embeddings of the queries.
    """

    def __init__(
        self,
        text_pids: Int[Tensor, " query"],
        image_pids: Int[Tensor, " gallery"],
        gallery: Gallery,
        texts: Float[Tensor, "query dim"],
    ) -> None:
        self.gallery = gallery
        positives = find_positives(text_pids, image_pids).numpy()
        similarity = _similarity_of_positives(positives, gallery, texts)
        order = np.argsort(-similarity, axis=1, kind="stable")
        self.positives: Int[ndarray, "query positives"] = np.take_along_axis(positives, order, 1)
        self.similarity = np.take_along_axis(similarity, order, 1)  # falling, -inf where none
        self.present = (positives >= 0).sum(axis=1)
        self.counts = np.zeros(positives.shape, np.int64)

    def add(self, block: Block) -> None:
        """Count the negatives of a block; the positives in `block.similarity` become -inf."""
        wanted = self.similarity[block.rows]
        column = self.positives[block.rows] - block.first
        rows, slots = np.nonzero((column >= 0) & (column < block.similarity.shape[1]))
        block.similarity[rows, column[rows, slots]] = -np.inf
        low, high = _around(wanted, block.error)
        counts = np.zeros(wanted.shape, np.int64)
        pairs = list[tuple[int, Counted]]()
        left = block.similarity.size / _PAIR
        for row, present in enumerate(self.present[block.rows]):
            if not present:
                continue
            bounds = low[row, :present], high[row, :present]
            counted = count_reaching(block.similarity[row], *bounds)
            counts[row, :present] = counted.certain
            left -= len(counted.columns)
            if left < 0:
                self.gallery.exact = True
                self.add(block.exact())
                return
            if len(counted.columns):
                pairs.append((row, counted))
        if pairs:
            rows = np.repeat([row for row, _ in pairs], [len(each.columns) for _, each in pairs])
            columns = np.concatenate([counted.columns for _, counted in pairs])
            slots = np.concatenate([counted.slots for _, counted in pairs])
            reach = block.exact_pairs(rows, columns) >= wanted[rows, slots]
            np.add.at(counts, (rows[reach], slots[reach]), 1)
        self.counts[block.rows] += counts

    def ranks(self) -> PositiveRanks:
        """Return the ranks, once all blocks were added."""
        slots = np.array(range(1, self.positives.shape[1] + 1))
        ranks = np.where(slots <= self.present[:, None], self.counts + slots, 0)
        return PositiveRanks(torch.as_tensor(ranks), torch.as_tensor(self.positives))


def _similarity_of_positives(
    positives: Int[ndarray, "query positives"],
    gallery: Gallery,
    texts: Float[Tensor, "query dim"],
) -> Float[ndarray, "query positives"]:
    """Return the exact similarity of each query to each of its positives, -inf where none."""
    similarity = np.full(positives.shape, -np.inf)
    rows_of = UnitVectors(texts)
    for first, images in gallery.chunks():
        rows, slots = np.nonzero((positives >= first) & (positives < first + len(images.exact)))
        block = Block(slice(None), first, rows_of, images, similarity, error=0.0)
        similarity[rows, slots] = block.exact_pairs(rows, positives[rows, slots] - first)
    return similarity


def _around(
    wanted: Float[ndarray, "query positives"], error: float
) -> tuple[Float[ndarray, "query positives"], Float[ndarray, "query positives"]]:
    """Return bounds: rounded similarities below the first are lower, from the second on not."""
    if not error:
        return wanted, wanted
    low = np.nextafter((wanted - error).astype(np.float32), np.float32(-np.inf))
    return low, np.nextafter((wanted + error).astype(np.float32), np.float32(np.inf))
