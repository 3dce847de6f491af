"""Re-rank the images of a text by the neighbours of the best ones, in bounded memory.

Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017, sections
3.2 to 3.5, adapted to texts that query images:

- Neighbours are images only. The paper's probe is itself an image, and a neighbour of others; a
  text is not, since similarities across and within modalities have different ranges. So a text
  begins with all its k1 nearest images, where an image begins with the reciprocal ones of its own.
  The ranks of a text do not depend on other texts.
- The direct similarity is scaled to [0, 1] over the gallery of each text, where the paper has one
  range of distances.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from tireid.metrics.ranks import rank_positives
from tireid.metrics.values import block_values
from tireid.retrieval.collection import SplitEmbeddings
from tireid.retrieval.similarity import check_embeddings, similarity_blocks, unit_vectors
from tireid.retrieval.top_k import top_k

_Set = tuple[Int[ndarray, " _"], Float[ndarray, " _"]]  # members and weights
_COMPARED = 2**22  # places in lists of neighbours, at a time
_TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True, slots=True)
class KReciprocal:
    """How results are re-ranked.

    Attributes:
        k1: Nearest images whose neighbours are compared. The paper: 20.
        k2: Nearest images whose sets of neighbours are averaged, the image or text itself
            included; 1: no average. The paper: 6.
        direct_weight: Weight of the direct similarity beside that of neighbours, in [0, 1]. The
            paper: 0.3.
    """

    k1: int = 20
    k2: int = 6
    direct_weight: float | int = 0.3

    def __post_init__(self) -> None:
        for name in ("k1", "k2"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected an integer >= 1, got {value!r}")
        if not 0 <= self.direct_weight <= 1:
            raise ValueError(
                f"direct_weight: expected a number in [0, 1], got {self.direct_weight!r}"
            )

    def similarities(
        self,
        texts: Float[Tensor, "query dim"],
        images: Float[Tensor, "gallery dim"],
        block_size: int = 256,
    ) -> Iterator[tuple[slice, Float[Tensor, "block gallery"]]]:
        """Yield the new similarities of consecutive texts to the whole gallery.

        Memory is bounded by one block of them and a multiple of gallery x k1 x k2.

        Args:
            texts: Embeddings, any float type.
            images: Embeddings of the same width.
            block_size: Texts at a time.

        Yields:
            Which texts, and similarities in [0, 1], float64, the same bits for every block size.

        Raises:
            ValueError: If embeddings are empty, of two widths, NaN or infinite.
        """
        check_embeddings(texts, images, block_size)
        texts, images = texts.cpu(), images.cpu()
        gallery = _Neighbourhoods(self, images)
        nearest = top_k(texts, images, max(self.k1, self.k2), block_size)[1].numpy()
        for rows, similarity in similarity_blocks(texts, images, block_size):
            least, most = similarity.aminmax(dim=1, keepdim=True)
            direct = (similarity - least) / (most - least).clamp_min(_TINY)
            pairs = zip(nearest[rows], similarity.numpy(), strict=True)
            shared = torch.as_tensor(np.stack([gallery.shared(*pair) for pair in pairs]))
            yield rows, self.direct_weight * direct + (1 - self.direct_weight) * shared

    def query_values(
        self, split: SplitEmbeddings, block_size: int = 256
    ) -> dict[str, Float[Tensor, " query"]]:
        """Return every metric of every text, as `embedding_values`, of the re-ranked images."""
        texts, images, text_pids, image_pids, own = (part.cpu() for part in split)
        blocks = (
            (rows, rank_positives(similarity, text_pids[rows], image_pids))
            for rows, similarity in self.similarities(texts, images, block_size)
        )
        return block_values(blocks, own)


class _Neighbourhoods:
    """The neighbours of all images of a gallery, each set with weights that sum to 1."""

    def __init__(self, settings: KReciprocal, images: Float[Tensor, "gallery dim"]) -> None:
        self.settings = settings
        self.count = len(images)
        most = max(settings.k1 + 1, settings.k2)  # an image is its own nearest
        nearest = top_k(images, images, most)[1].numpy()
        self._half = _reciprocal(nearest[:, : 1 + round(settings.k1 / 2)])
        unit = unit_vectors(images).numpy()
        self._sets: list[_Set] = []
        for row, members in enumerate(_reciprocal(nearest[:, : settings.k1 + 1])):
            members = self._expanded(members)
            self._sets.append((members, _weights(unit[members] @ unit[row])))
        averaged = [self._average(nearest[row, : settings.k2]) for row in range(self.count)]
        self._holders = _turned(averaged, self.count)

    def shared(
        self, nearest: Int[ndarray, " nearest"], similarity: Float[ndarray, " gallery"]
    ) -> Float[ndarray, " gallery"]:
        """Return the Jaccard similarity of a text's neighbours to those of every image.

        Args:
            nearest: The images nearest to the text, in order.
            similarity: Of the text to all images.
        """
        members = self._expanded(nearest[: self.settings.k1])
        own = members, _weights(similarity[members])
        neighbours, weights = self._average(nearest[: self.settings.k2 - 1], own)
        holders = [self._holders[int(neighbour)] for neighbour in neighbours]
        least = [np.minimum(h[1], w) for h, w in zip(holders, weights, strict=True)]
        rows = np.concatenate([holder[0] for holder in holders])
        common = np.bincount(rows, np.concatenate(least), minlength=self.count)
        return common / (2 - common)  # both weigh 1, so that what either has is 2 less the common

    def _expanded(self, members: Int[ndarray, " members"]) -> Int[ndarray, " more"]:
        """Add the sets of half the size of which more than two thirds are members."""
        sets = (self._half[int(member)] for member in members)
        added = [s for s in sets if 3 * np.isin(s, members).sum() > 2 * len(s)]
        return np.unique(np.concatenate([members, *added]))

    def _average(self, rows: Int[ndarray, " rows"], *others: _Set) -> _Set:
        sets = [*others, *(self._sets[int(row)] for row in rows)]
        places, weights = (np.concatenate(parts) for parts in zip(*sets, strict=True))
        mean = np.bincount(places, weights, minlength=self.count) / len(sets)
        members = np.flatnonzero(mean)
        return members, mean[members]


def _weights(similarity: Float[ndarray, " members"]) -> Float[ndarray, " members"]:
    """Return weights that fall with the distance, 1 less the similarity, and sum to 1."""
    weights = np.exp(similarity - 1)
    return weights / weights.sum()


def _reciprocal(nearest: Int[ndarray, "gallery k"]) -> list[Int[ndarray, " _"]]:
    """Return the nearest of each image that have it among their own nearest."""
    count, width = nearest.shape
    step = max(1, _COMPARED // width**2)
    sets: list[ndarray] = []
    for start in range(0, count, step):
        block = nearest[start : start + step]
        rows = np.arange(start, start + len(block))
        mutual = (nearest[block] == rows[:, None, None]).any(axis=2)
        sets += [members[kept] for members, kept in zip(block, mutual, strict=True)]
    return sets


def _turned(sets: list[_Set], count: int) -> list[_Set]:
    """Return, for each image, whose sets it is in, and with which weights."""
    places, weights = (np.concatenate(parts) for parts in zip(*sets, strict=True))
    rows = np.repeat(np.arange(count), [len(members) for members, _ in sets])
    order = np.argsort(places, kind="stable")
    bounds = np.cumsum(np.bincount(places, minlength=count))[:-1]
    parts = (np.split(values[order], bounds) for values in (rows, weights))
    return list(zip(*parts, strict=True))
