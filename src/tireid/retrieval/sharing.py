"""Ranking shared among the processes of a run: each ranks a part of the queries."""

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from tireid.metrics.identities import check_identities
from tireid.retrieval.evaluation import embedding_values
from tireid.retrieval.similarity import check_embeddings


def shared_embedding_values(
    text_embeddings: Float[Tensor, "query dim"],
    image_embeddings: Float[Tensor, "gallery image_dim"],
    text_pids: Int[Tensor, " text_labels"],
    image_pids: Int[Tensor, " image_labels"],
    *,
    paired: Int[Tensor, " pairs"] | None = None,
    block_size: int = 256,
) -> dict[str, Float[Tensor, " query"]]:
    """Compute `embedding_values` of what all processes have alike, each ranking its share.

    The values are the same bits for any number of processes, on each of them.

    Args:
        text_embeddings: As `embedding_values`, like all arguments; equal on all processes.
        image_embeddings: The gallery.
        text_pids: Identity of each text.
        image_pids: Identity of each image.
        paired: Gallery index of each text's own image.
        block_size: Texts at a time.

    Raises:
        ValueError: As `embedding_values`; on all processes alike.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return embedding_values(
            text_embeddings,
            image_embeddings,
            text_pids,
            image_pids,
            paired=paired,
            block_size=block_size,
        )
    # All of it first: an error on one process alone would leave the others waiting.
    check_embeddings(text_embeddings, image_embeddings, block_size)
    queries, gallery = len(text_embeddings), len(image_embeddings)
    check_identities(text_pids, image_pids, paired, queries=queries, gallery=gallery)
    share = -(-queries // dist.get_world_size())
    # Beyond the last query that one again, so that all shares are equal.
    rows = (torch.arange(share) + share * dist.get_rank()).clamp_max(queries - 1)
    rows = rows.to(text_embeddings.device)
    values = embedding_values(
        text_embeddings[rows],
        image_embeddings,
        text_pids[rows],
        image_pids,
        paired=None if paired is None else paired[rows],
        block_size=block_size,
    )
    gathered = torch.cat(gather_all_tensors(torch.stack(list(values.values()), dim=1)))[:queries]
    return dict(zip(values, gathered.unbind(1), strict=True))
