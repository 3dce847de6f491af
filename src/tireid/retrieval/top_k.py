"""Find the best gallery items of each query, for figures of results and for search."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tireid.retrieval.similarity import check_embeddings, similarity_blocks


def top_k(
    text_embeddings: Float[Tensor, "query dim"],
    image_embeddings: Float[Tensor, "gallery image_dim"],
    k: int,
    block_size: int = 256,
) -> tuple[Float[Tensor, "query k"], Int[Tensor, "query k"]]:
    """Find the k images that are most similar to each text.

    Args:
        text_embeddings: The queries; any float type, need not be normalised.
        image_embeddings: The gallery, of the same width.
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
    check_embeddings(text_embeddings, image_embeddings, block_size)
    scores: list[Tensor] = []
    indices: list[Tensor] = []
    for _, similarity in similarity_blocks(text_embeddings, image_embeddings, block_size):
        # A stable sort: `torch.topk` leaves the order of ties open.
        ordered = similarity.sort(dim=1, descending=True, stable=True)
        scores.append(ordered.values[:, :k].float())
        indices.append(ordered.indices[:, :k].clone())
    return torch.cat(scores), torch.cat(indices)
