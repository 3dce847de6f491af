"""Embeddings of a split → retrieval metrics, in bounded memory."""

from jaxtyping import Float, Int
from torch import Tensor

from tireid.metrics.identities import check_identities
from tireid.metrics.values import join_values, mean_percent, query_values
from tireid.retrieval.similarity import check_embeddings, similarity_blocks


def embedding_values(
    text_embeddings: Float[Tensor, "query dim"],
    image_embeddings: Float[Tensor, "gallery image_dim"],
    text_pids: Int[Tensor, " text_labels"],
    image_pids: Int[Tensor, " image_labels"],
    *,
    paired: Int[Tensor, " pairs"] | None = None,
    block_size: int = 256,
) -> dict[str, Float[Tensor, " query"]]:
    """Every metric of every query, as `evaluate_embeddings` averages them; for bootstrapping.

    Args:
        text_embeddings: See `evaluate_embeddings`, like all arguments.
        image_embeddings: The gallery.
        text_pids: Identity of each text.
        image_pids: Identity of each image.
        paired: Gallery index of each text's own image.
        block_size: Texts at a time.

    Returns:
        Fractions in the order of the texts, float64; NaN where a text has no positive.

    Raises:
        ValueError: As `evaluate_embeddings`, except that queries without positive are allowed.
    """
    check_embeddings(text_embeddings, image_embeddings, block_size)
    query, gallery, own = check_identities(
        text_pids,
        image_pids,
        paired,
        queries=len(text_embeddings),
        gallery=len(image_embeddings),
    )
    device = image_embeddings.device
    query, gallery = query.to(device), gallery.to(device)
    own = None if own is None else own.to(device)
    blocks = [
        query_values(similarity, query[rows], gallery, None if own is None else own[rows])
        for rows, similarity in similarity_blocks(text_embeddings, image_embeddings, block_size)
    ]
    return join_values(blocks)


def evaluate_embeddings(
    text_embeddings: Float[Tensor, "query dim"],
    image_embeddings: Float[Tensor, "gallery image_dim"],
    text_pids: Int[Tensor, " text_labels"],
    image_pids: Int[Tensor, " image_labels"],
    *,
    paired: Int[Tensor, " pairs"] | None = None,
    block_size: int = 256,
) -> dict[str, float]:
    """Compute R@k, mAP and mINP of texts that query a gallery of images, in percent.

    Ranks by cosine similarity. Neither the whole similarity matrix nor a sort of the gallery is
    made; memory is about 8 bytes x gallery x (dim + 5 x block_size). Figures are the same bits for
    every block size. For image to text, swap the two sides.

    Args:
        text_embeddings: The queries; any float type, need not be normalised.
        image_embeddings: The gallery, every image once; of the same width.
        text_pids: Identity of each text, any integers.
        image_pids: Identity of each image.
        paired: Gallery index of each text's own image, -1 where the gallery has not got it. If
            given, metrics without the matching image are added.
        block_size: Texts compared with the gallery at a time.

    Returns:
        The keys of `tireid.metrics.retrieval_metrics`.

    Warns:
        UserWarning: With the number of texts left out because they have no positive.

    Raises:
        ValueError: If an embedding is NaN or infinite, no text has a positive, sizes do not fit
            together, or `paired` contradicts the identities.

    Example:
        >>> import torch
        >>> embeddings, pids = torch.eye(3), torch.tensor([4, 5, 6])
        >>> evaluate_embeddings(embeddings, embeddings, pids, pids)["R1"]
        100.0
    """
    values = embedding_values(
        text_embeddings,
        image_embeddings,
        text_pids,
        image_pids,
        paired=paired,
        block_size=block_size,
    )
    return mean_percent(values)
