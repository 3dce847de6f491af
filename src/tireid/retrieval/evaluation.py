"""Embeddings of a split → retrieval metrics, in bounded memory, on one process or shared."""

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor

from tireid.metrics.identities import as_tensor, check_identities
from tireid.metrics.values import block_values, mean_percent
from tireid.retrieval.ranking import ranked_blocks
from tireid.retrieval.similarity import check_embeddings


def embedding_values(
    text_embeddings: Float[Tensor | np.ndarray, "query dim"],
    image_embeddings: Float[Tensor | np.ndarray, "gallery image_dim"],
    text_pids: Int[Tensor | np.ndarray, " text_labels"],
    image_pids: Int[Tensor | np.ndarray, " image_labels"],
    *,
    paired: Int[Tensor | np.ndarray, " pairs"] | None = None,
    block_size: int = 256,
    shared: bool = False,
) -> dict[str, Float[Tensor, " query"]]:
    """Compute every metric of every query, as `evaluate_embeddings` averages them.

    Args:
        text_embeddings: The queries; any float type, need not be normalised. Arrays of numpy are
            taken like tensors.
        image_embeddings: The gallery, every image once; of the same width.
        text_pids: Identity of each text, any integers.
        image_pids: Identity of each image.
        paired: Gallery index of each text's own image, -1 where it is not in the gallery. If
            given, metrics without the matching image are added.
        block_size: Texts compared with the gallery at a time.
        shared: Whether each process of the run ranks a share of the texts. All processes must call
            with equal arguments; each gets all values, the same bits for any number of processes.

    Returns:
        Fractions in the order of the texts, float64; NaN where a text has no positive.

    Raises:
        ValueError: If an embedding is NaN or infinite, sizes do not fit together, or `paired`
            contradicts the identities; on all processes alike.
    """
    text_embeddings = as_tensor(text_embeddings, "text embeddings")
    image_embeddings = as_tensor(image_embeddings, "image embeddings")
    # All of it first: an error on one process alone would leave the others waiting.
    check_embeddings(text_embeddings, image_embeddings, block_size)
    queries, device = len(text_embeddings), image_embeddings.device
    query_pids, gallery_pids, own_image = check_identities(
        text_pids, image_pids, paired, queries=queries, gallery=len(image_embeddings)
    )
    gallery_pids = gallery_pids.to(device)
    in_group = shared and dist.is_available() and dist.is_initialized()
    processes, rank = (dist.get_world_size(), dist.get_rank()) if in_group else (1, 0)
    share = -(-queries // processes)
    # Beyond the last query that one is repeated, so that all shares are equal.
    members = (torch.arange(share) + share * rank).clamp_max(queries - 1)
    query_pids = query_pids[members].to(device)
    own_image = None if own_image is None else own_image[members].to(device)
    texts = text_embeddings[members]
    ranked = ranked_blocks(texts, image_embeddings, query_pids, gallery_pids, block_size)
    values = block_values(ranked, own_image)
    if processes == 1:
        return values
    own = torch.stack(list(values.values()), dim=1)
    gathered = [torch.empty_like(own) for _ in range(processes)]
    dist.all_gather(gathered, own)  # pyright: ignore[reportUnknownMemberType] -- untyped
    return dict(zip(values, torch.cat(gathered)[:queries].unbind(1), strict=True))


def evaluate_embeddings(
    text_embeddings: Float[Tensor | np.ndarray, "query dim"],
    image_embeddings: Float[Tensor | np.ndarray, "gallery image_dim"],
    text_pids: Int[Tensor | np.ndarray, " text_labels"],
    image_pids: Int[Tensor | np.ndarray, " image_labels"],
    *,
    paired: Int[Tensor | np.ndarray, " pairs"] | None = None,
    block_size: int = 256,
    shared: bool = False,
) -> dict[str, float]:
    """Compute R@k, mAP and mINP of texts that query a gallery of images, in percent.

    Ranks by cosine similarity. Neither the whole similarity matrix nor a sort of the gallery is
    made: memory beyond the arguments is bounded, on a CPU at about 0.5 GiB, elsewhere at about
    2 GB. Metrics are the same bits for every block size. For image to text, swap the two sides.

    Args:
        text_embeddings: See `embedding_values` for all arguments.
        image_embeddings: The gallery.
        text_pids: Identity of each text.
        image_pids: Identity of each image.
        paired: Gallery index of each text's own image.
        block_size: Texts compared with the gallery at a time.
        shared: Whether each process of the run ranks a share of the texts.

    Returns:
        The keys of `tireid.metrics.retrieval_metrics`.

    Warns:
        UserWarning: With the number of texts left out because they have no positive.

    Raises:
        ValueError: As `embedding_values`, and if no text has a positive.

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
        shared=shared,
    )
    return mean_percent(values)
