"""The control: two towers, one embedding each, one alignment loss and an identity loss."""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tireid.methods.base import (
    RetrievalModule,
    TrainingTerms,
    align,
    freeze_unused,
    token_contributions,
)
from tireid.methods.identity import SampledClasses, identity_terms, sample_linear
from tireid.structures import Features, Images, PairBatch, TokenIds, Tokens, Valid, Words

PROJECTIONS = ("pretrained", "none", "pooled", "per_position")


class Baseline(RetrievalModule):
    """A dual encoder: one feature a modality, mapped linearly to one space.

    Args:
        num_train_pids: Number of training identities.
        alignment: Loss over `(image_features, text_features, pids)`: InfoNCE, SDM, CMPM, ranking.
        embedding_dim: Width of the shared space.
        projection: `pooled`, the encoder's pooled image feature is mapped; `per_position`, every
            local image feature is, then they are pooled as in the encoder (`pool`), else by their
            maximum; `none`, the pooled image feature is taken as it is, and the text mapped to it;
            `pretrained`, both encoders end in one space by their own projections, as CLIP's do, and
            nothing is mapped: untrained, it ranks as CLIP does.
        alignment_weight: Weight of the alignment loss.
        identity_weight: Weight of the identity loss; one classifier serves both modalities.
        label_smoothing: Of the identity loss, see `identity_loss`.
        identity: `exact`, all identities are scored; or `sampled`, those of the batch and a random
            share of the others, see `tireid.methods.identity`.
        identity_share: Share of the identities in a step of `sampled`.
        seed: Key of that draw.
        **base: Encoders, optimiser, schedule and rates, see `RetrievalModule`. Rates:
            `image_encoder`, `text_encoder`, `head`, `classifier`.
    """

    training_only = ("classifier.", "sampled_classes.")
    image_projection: nn.Module
    text_projection: nn.Module
    classifier: nn.Linear
    sampled_classes: SampledClasses | None
    alignment: nn.Module

    def __init__(
        self,
        *,
        num_train_pids: int,
        alignment: nn.Module,
        embedding_dim: int = 512,
        projection: str = "pooled",
        alignment_weight: float = 1.0,
        identity_weight: float = 1.0,
        label_smoothing: float = 0.0,
        identity: str = "exact",
        identity_share: float = 0.1,
        seed: int = 0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.projection = projection
        self.feature_dim = embedding_dim
        self.image_projection, self.text_projection = self._projections(embedding_dim)
        self.classifier = nn.Linear(embedding_dim, num_train_pids)
        freeze_unused(self.classifier, identity_weight, alignment)
        self.sampled_classes = sample_linear(
            self.classifier, identity, identity_weight, identity_share, seed, alignment
        )
        self.alignment = alignment
        self.alignment_weight = alignment_weight
        self.identity_weight = identity_weight
        self.label_smoothing = label_smoothing

    def _projections(self, width: int) -> tuple[nn.Module, nn.Module]:
        """Return what maps either modality's features to the shared space.

        Raises:
            ValueError: If there is no such projection, or the encoders do not fit it.
        """
        image_dim = int(self.image_encoder.out_dim)  # pyright: ignore[reportArgumentType] -- nn.Module attribute
        text_dim = int(self.text_encoder.out_dim)  # pyright: ignore[reportArgumentType]
        if self.projection in ("pooled", "per_position"):
            return nn.Linear(image_dim, width), nn.Linear(text_dim, width)
        if self.projection not in PROJECTIONS:
            expected = "pretrained, none, pooled or per_position"
            raise ValueError(f"projection: expected {expected}, got {self.projection!r}")
        if image_dim != width:
            raise ValueError(
                f"embedding_dim: expected {image_dim}, the image encoder's width, with "
                f"projection={self.projection}, got {width}; set embedding_dim={image_dim}"
            )
        if self.projection == "none":
            return nn.Identity(), nn.Linear(text_dim, width)
        spaces = [getattr(e, "space", None) for e in (self.image_encoder, self.text_encoder)]
        if None in spaces or len(set(spaces)) > 1 or text_dim != width:
            raise ValueError(
                "projection: expected pooled or per_position with encoders that do not end in one "
                f"space of {width}, as the towers of one CLIP do, got pretrained; set "
                "projection=pooled"
            )
        return nn.Identity(), nn.Identity()

    def image_features(self, images: Images) -> Features:
        """Return the image side of the shared space, not normalised."""
        return self._project_image(self.image_encoder(images))

    def _project_image(self, tokens: Tokens) -> Tensor:
        if self.projection != "per_position":
            return self.image_projection(tokens.pooled)
        mapped = self.image_projection(tokens.local)
        pool = getattr(self.image_encoder, "pool", "max")
        return mapped.amax(dim=1) if pool == "max" else mapped.mean(dim=1)

    def text_features(self, token_ids: TokenIds, valid: Valid, words: Words = None) -> Features:
        """Return the text side of the shared space, not normalised."""
        return self._project_text(self.text_tokens(token_ids, valid, words))

    def _project_text(self, tokens: Tokens) -> Tensor:
        return self.text_projection(tokens.pooled)

    def image_contributions(
        self, images: Images, texts: Features
    ) -> Float[Tensor, "batch length"] | None:
        """Return the terms of the score by image token, if tokens are pooled by mean or maximum."""
        with torch.enable_grad():
            tokens = self.image_encoder(images)
            return token_contributions(tokens, self._project_image, self.image_projection, texts)

    def text_contributions(
        self, token_ids: TokenIds, valid: Valid, images: Features
    ) -> Float[Tensor, "batch length"] | None:
        """Return the terms of the score by text token, if tokens are pooled by mean or maximum."""
        with torch.enable_grad():
            tokens = self.text_tokens(token_ids, valid)
            return token_contributions(tokens, self._project_text, self.text_projection, images)

    def training_terms(self, batch: PairBatch, step: int) -> TrainingTerms:
        """Align the two modalities and identify both."""
        images = self.image_features(batch.images)
        texts = self.text_features(batch.token_ids, batch.valid, batch.words)
        classes = (batch.label, self.classifier.weight)
        aligned = align(self.alignment, images, texts, batch.pid, draw=step, classes=classes)
        terms = {"alignment": self.alignment_weight * aligned}
        if self.identity_weight:
            both = identity_terms(
                self.classifier,
                self.sampled_classes,
                (images, texts),
                batch.label,
                step=step,
                smoothing=self.label_smoothing,
            )
            terms["id"] = self.identity_weight * both
        return TrainingTerms(terms, images, texts)

    def parameter_groups(self) -> dict[str, Iterable[nn.Parameter]]:
        """Return the encoders, the projections and the classifier."""
        return {
            "image_encoder": self.image_encoder.parameters(),
            "text_encoder": self.text_encoder.parameters(),
            "head": [*self.image_projection.parameters(), *self.text_projection.parameters()],
            "classifier": [
                *self.classifier.parameters(),
                *(self.sampled_classes.parameters() if self.sampled_classes else ()),
            ],
        }
