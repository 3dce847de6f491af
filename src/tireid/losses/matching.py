"""Match the texts and images of a batch: the targets that batch-wise losses share."""

from jaxtyping import Bool
from torch import Tensor

from tireid.structures import Features, Ids


def same_identity(pids: Ids) -> Bool[Tensor, "batch batch"]:
    """Return True where row and column of a batch show the same identity."""
    return pids[:, None] == pids


def check_pairs(image_features: Features, text_features: Features, pids: Ids | None) -> None:
    """Raise a ValueError unless row i of both features, and of `pids`, is one pair."""
    if image_features.shape != text_features.shape:
        raise ValueError(
            "expected image and text features of one shape, row i being pair i, got "
            f"{tuple(image_features.shape)} and {tuple(text_features.shape)}"
        )
    if pids is not None and len(pids) != len(image_features):
        raise ValueError(f"expected {len(image_features)} pids, one per pair, got {len(pids)}")
