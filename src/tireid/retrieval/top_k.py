"""Find the best gallery items of each query, for figures of results and for search."""

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from tireid.retrieval.gallery import Block, Gallery
from tireid.retrieval.similarity import check_embeddings, similarity_blocks

_OPEN = 1 / 64  # share of pairs that may be as good as the k-th beyond which all are computed
_GROUP = 16  # images


def top_k(
    text_embeddings: Float[Tensor, "query dim"],
    gallery: Float[Tensor, "gallery image_dim"] | Gallery,
    k: int,
    block_size: int = 256,
) -> tuple[Float[Tensor, "query k"], Int[Tensor, "query k"]]:
    """Find the k images that are most similar to each text.

    Args:
        text_embeddings: The queries; any float type, need not be normalised.
        gallery: Embeddings of the same width, or `Gallery(embeddings, keep=True)`, which many
            calls can share.
        k: At least 1. A gallery with fewer images is returned whole.
        block_size: Texts compared with the gallery at a time.

    Returns:
        Cosine similarities, float32, falling; and gallery indices. Of equally similar images the
        one with the lower index comes first.

    Raises:
        ValueError: If k or the block size is below 1, or embeddings are empty, of two widths, NaN
            or infinite.

    Example:
        >>> gallery = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0]])
        >>> top_k(torch.tensor([[3.0, 0.0]]), gallery, k=2)
        (tensor([[1., 1.]]), tensor([[1, 2]]))
    """
    if k < 1:
        raise ValueError(f"expected k of at least 1, got {k}")
    # A gallery that is kept was checked when it was prepared.
    images = gallery.images[:1] if isinstance(gallery, Gallery) else gallery
    check_embeddings(text_embeddings, images, block_size)
    if images.device.type == "cpu":
        prepared, best = gallery if isinstance(gallery, Gallery) else Gallery(images), BestImages(k)
        for block in prepared.blocks(text_embeddings, block_size):
            best.add(block)
        scores, indices = best.result()
        return torch.as_tensor(scores.astype(np.float32)), torch.as_tensor(indices)
    blocks = [
        sorted_best(similarity, k)
        for _, similarity in similarity_blocks(text_embeddings, images, block_size)
    ]
    return torch.cat([block[0].float() for block in blocks]), torch.cat([b[1] for b in blocks])


def sorted_best(
    similarity: Float[Tensor, "query gallery"], k: int
) -> tuple[Float[Tensor, "query best"], Int[Tensor, "query best"]]:
    """Return the k highest similarities of each row and their columns, of equals the lower first.

    A stable sort: `torch.topk` leaves the order of ties open.
    """
    ordered = similarity.sort(dim=1, descending=True, stable=True)
    return ordered.values[:, :k].clone(), ordered.indices[:, :k].clone()


class BestImages:
    """The best images of each text over blocks of similarities, exact.

    Args:
        k: Images to keep of each text.
    """

    def __init__(self, k: int) -> None:
        self.k = k
        self._kept: dict[int, tuple[ndarray, ndarray]] = {}

    def add(self, block: Block) -> None:
        """Take the best images of a block into account; blocks of a text in gallery order."""
        scores, columns = _best_of(block, self.k)
        columns = columns + block.first
        if block.rows.start in self._kept:
            before = self._kept[block.rows.start]
            scores, columns = np.hstack([before[0], scores]), np.hstack([before[1], columns])
            order = np.argsort(-scores, axis=1, kind="stable")[:, : self.k]
            scores, columns = (np.take_along_axis(part, order, 1) for part in (scores, columns))
        self._kept[block.rows.start] = scores, columns

    def result(self) -> tuple[Float[ndarray, "query k"], Int[ndarray, "query k"]]:
        """Return similarities, float64, falling, and positions in the gallery."""
        scores, columns = zip(*(self._kept[row] for row in sorted(self._kept)), strict=True)
        return np.concatenate(scores), np.concatenate(columns)


def _best_of(block: Block, k: int) -> tuple[ndarray, ndarray]:
    """Return exact similarities and columns of the best images of a block."""
    count, width = block.similarity.shape
    k = min(k, width)
    # Whatever is worse than the k-th by more than both roundings is not among the best k.
    least = _at_most_kth(block.similarity, k) - np.float32(2.01 * block.error)
    rows, columns = np.divmod(np.flatnonzero(block.similarity >= least[:, None]), width)
    if len(rows) > 2 * k * count + _OPEN * block.similarity.size:
        scores, best = sorted_best(torch.as_tensor(block.exact().similarity), k)
        return scores.numpy(), best.numpy()
    scores = block.exact_pairs(rows, columns)
    order = np.lexsort((columns, -scores, rows))
    first = np.searchsorted(rows, range(count))
    chosen = order[first[:, None] + range(k)]
    return scores[chosen], columns[chosen]


def _at_most_kth(similarity: Float[ndarray, "query images"], k: int) -> Float[ndarray, " query"]:
    """Return a lower bound, mostly near, of the k-th highest value of each row.

    At least k values reach the k-th highest of the maxima of groups: one in each of k groups.
    """
    count, width = similarity.shape
    groups = width // _GROUP
    if groups >= 4 * k:
        grouped = similarity[:, : groups * _GROUP].reshape(count, _GROUP, groups)
        similarity, width = grouped.max(axis=1), groups
    return np.partition(similarity, width - k, axis=1)[:, width - k]
