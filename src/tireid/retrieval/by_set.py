"""The metrics of each data set of a mixed split, from the embeddings of the whole."""

from collections.abc import Collection, Mapping

import torch

from tireid.retrieval.collection import SplitEmbeddings
from tireid.retrieval.evaluation import evaluate_embeddings


def values_by_set(
    split: SplitEmbeddings, sets: Mapping[str, Collection[int]], block_size: int = 256
) -> dict[str, float]:
    """Return the text-to-image metrics of each set, named `SET/R1`, as if it were alone.

    Args:
        split: All embeddings, the same on every process.
        sets: The identities of each set.
        block_size: Texts compared with the gallery at a time.
    """
    values: dict[str, float] = {}
    for name, pids in sets.items():
        own = torch.tensor(sorted(pids), device=split.text_pids.device)
        texts = torch.isin(split.text_pids, own)
        images = torch.isin(split.image_pids, own)
        # Positions in the whole gallery become those in the set's.
        position = torch.where(images, images.cumsum(0) - 1, -1)
        paired = split.image_index[texts]
        found = evaluate_embeddings(
            split.texts[texts],
            split.images[images],
            split.text_pids[texts],
            split.image_pids[images],
            paired=torch.where(paired >= 0, position[paired], -1),
            block_size=block_size,
            shared=True,
        )
        values |= {f"{name}/{metric}": value for metric, value in found.items()}
    return values
