"""The control: two towers, one embedding each, one alignment loss and an identity loss."""

from collections.abc import Iterable
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tireid.losses.identity import identity_loss
from tireid.methods.base import RetrievalModule
from tireid.structures import PairBatch


class Baseline(RetrievalModule):
    """A dual encoder: each encoder's pooled feature, mapped linearly to one space.

    Args:
        num_train_pids: Number of training identities.
        alignment: Loss over `(image_features, text_features, pids)`: CMPM, SDM or InfoNCE.
        embedding_dim: Width of the shared space.
        alignment_weight: Weight of the alignment loss.
        identity_weight: Weight of the identity loss; one classifier serves both modalities.
        **base: Encoders, optimiser, schedule and rates, see `RetrievalModule`. Rates:
            `image_encoder`, `text_encoder`, `head`, `classifier`.
    """

    training_only = ("classifier.",)
    image_projection: nn.Linear
    text_projection: nn.Linear
    classifier: nn.Linear
    alignment: nn.Module

    def __init__(
        self,
        *,
        num_train_pids: int,
        alignment: nn.Module,
        embedding_dim: int = 512,
        alignment_weight: float = 1.0,
        identity_weight: float = 1.0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        image_dim = int(self.image_encoder.out_dim)  # pyright: ignore[reportArgumentType] -- nn.Module attribute
        text_dim = int(self.text_encoder.out_dim)  # pyright: ignore[reportArgumentType]
        self.image_projection = nn.Linear(image_dim, embedding_dim)
        self.text_projection = nn.Linear(text_dim, embedding_dim)
        self.classifier = nn.Linear(embedding_dim, num_train_pids)
        self.alignment = alignment
        self.alignment_weight = alignment_weight
        self.identity_weight = identity_weight

    def image_features(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch dim"]:
        """Return the image side of the shared space, not normalised."""
        return self.image_projection(self.image_encoder(images).pooled)

    def text_features(
        self, token_ids: Int[Tensor, "batch length"], valid: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch dim"]:
        """Return the text side of the shared space, not normalised."""
        return self.text_projection(self.text_encoder(token_ids, valid).pooled)

    def encode_image(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch dim"]:
        """Return the image features with unit norm."""
        return F.normalize(self.image_features(images), dim=-1)

    def encode_text(
        self, token_ids: Int[Tensor, "batch length"], valid: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch dim"]:
        """Return the text features with unit norm."""
        return F.normalize(self.text_features(token_ids, valid), dim=-1)

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """Align the two modalities and identify both."""
        images = self.image_features(batch.images)
        texts = self.text_features(batch.token_ids, batch.valid)
        terms = {"alignment": self.alignment_weight * self.alignment(images, texts, batch.pid)}
        if self.identity_weight:
            terms["id"] = self.identity_weight * (
                identity_loss(self.classifier(images), batch.label)
                + identity_loss(self.classifier(texts), batch.label)
            )
        return self.total_loss(terms, len(batch.pid))

    def parameter_groups(self) -> dict[str, Iterable[nn.Parameter]]:
        """Return the encoders, the projections and the classifier."""
        return {
            "image_encoder": self.image_encoder.parameters(),
            "text_encoder": self.text_encoder.parameters(),
            "head": [*self.image_projection.parameters(), *self.text_projection.parameters()],
            "classifier": self.classifier.parameters(),
        }
