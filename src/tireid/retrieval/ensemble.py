"""Rank by the mean similarity of several models, in the memory of their embeddings."""

from collections.abc import Sequence
from math import inf
from typing import Any

import torch
from torch import Tensor

from tireid.retrieval.collection import SplitEmbeddings
from tireid.retrieval.similarity import unit_vectors


def ensemble(
    splits: Sequence[SplitEmbeddings], weights: Sequence[Any] | None = None
) -> SplitEmbeddings:
    """Return embeddings whose similarities are the weighted means of several models'.

    Those of the models are put side by side, each times the root of its weight, so that no matrix
    of similarities is made.

    Args:
        splits: One split as each of the models embeds it, of any widths.
        weights: One for each model, above 0; they need not sum to 1. None: all are equal.

    Raises:
        ValueError: If the weights are none, or the models have embedded different splits.
    """
    shares = [1.0] * len(splits) if weights is None else weights
    are_numbers = all(isinstance(share, int | float) and 0 < share < inf for share in shares)
    if len(shares) != len(splits) or not are_numbers:
        raise ValueError(
            f"ensemble_weights: expected {len(splits)} numbers above 0, one for each run, got "
            f"{list(shares)}"
        )
    first, *others = splits
    for other in others:
        if not all(_equal(*pair) for pair in zip(first[2:], other[2:], strict=True)):
            raise ValueError("ensemble: expected runs on the same captions and images, got others")
    roots = [(share / sum(shares)) ** 0.5 for share in shares]
    sides = ((split.texts for split in splits), (split.images for split in splits))
    texts, images = (
        torch.cat([root * unit_vectors(part) for root, part in zip(roots, side, strict=True)], 1)
        for side in sides
    )
    return first._replace(texts=texts, images=images)


def _equal(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.cpu(), other.cpu())
