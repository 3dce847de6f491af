"""A frozen teacher's features computed once: the quick second stage of LCR2S, and the oracle."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tireid.methods.lcr2s.fusion import SupportFusion
from tireid.methods.lcr2s.supports import take_slots
from tireid.structures import Features, PairBatch


@torch.no_grad()
def enrich_split(
    fusion: SupportFusion,
    features: Float[Tensor, "items dim"],
    slots: Int[Tensor, "items slots"],
    *,
    chunk: int = 1024,
) -> Float[Tensor, "items dim"]:
    """Fuse every item of a split with its support set from the same split.

    Args:
        fusion: Of the items' modality.
        features: Un-fused, not normalised.
        slots: For each item, rows of `features`; -1 = empty slot.
        chunk: Items fused at a time.
    """
    fused = [
        fusion(anchors, *take_slots(features, rows))
        for anchors, rows in zip(features.split(chunk), slots.split(chunk), strict=True)
    ]
    return torch.cat(fused)


class TargetTable(nn.Module):
    """Stands in for a frozen teacher whose features of the training split were computed once.

    A step then costs no teacher. What it gives up: the teacher saw each image without the
    augmentation that the student sees, and one support set for the whole training.

    Args:
        images: Enriched features of the training images, by `image_id`.
        texts: Enriched features of the training captions, by `index`.
    """

    images: Tensor
    texts: Tensor

    def __init__(
        self, images: Float[Tensor, "images dim"], texts: Float[Tensor, "texts dim"]
    ) -> None:
        super().__init__()
        self.register_buffer("images", images)
        self.register_buffer("texts", texts)
        self.feature_dim = images.shape[1]

    def enrich(self, batch: PairBatch, step: int) -> tuple[Features, Features]:
        """Return the enriched features of a batch's images and texts, not normalised."""
        return self.images[batch.image_id], self.texts[batch.index]
