"""A dual encoder that pools local tokens by a generalised mean."""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tireid.methods.base import RetrievalModule, TrainingTerms, align
from tireid.structures import PairBatch, Tokens


class Gem(RetrievalModule):
    """Two encoders, each pooled by a generalised mean and mapped to a shared space.

    Args:
        num_train_pids: Number of training identities; not used, since nothing is classified.
        alignment: Loss over `(image_features, text_features, pids)`.
        embedding_dim: Width of the shared space.
        **base: Encoders, optimiser, schedule and rates, see `RetrievalModule`.
    """

    def __init__(
        self, *, num_train_pids: int, alignment: nn.Module, embedding_dim: int = 512, **base: Any
    ) -> None:
        super().__init__(**base)
        self.feature_dim = embedding_dim
        self.image_projection = nn.Linear(int(self.image_encoder.out_dim), embedding_dim)
        self.text_projection = nn.Linear(int(self.text_encoder.out_dim), embedding_dim)
        self.exponent = nn.Parameter(torch.tensor(3.0))
        self.alignment = alignment

    def image_features(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch dim"]:
        """Return the pooled and mapped image features."""
        return self.image_projection(generalised_mean(self.image_encoder(images), self.exponent))

    def text_features(
        self,
        token_ids: Int[Tensor, "batch length"],
        valid: Bool[Tensor, "batch length"],
        words: Float[Tensor, "batch length width"] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """Return the pooled and mapped text features."""
        tokens = self.text_tokens(token_ids, valid, words)
        return self.text_projection(generalised_mean(tokens, self.exponent))

    def training_terms(self, batch: PairBatch, step: int) -> TrainingTerms:
        """Align the two modalities."""
        images = self.image_features(batch.images)
        texts = self.text_features(batch.token_ids, batch.valid, batch.words)
        aligned = align(self.alignment, images, texts, batch.pid, draw=step)
        return TrainingTerms({"alignment": aligned}, images, texts)

    def parameter_groups(self) -> dict[str, Iterable[nn.Parameter]]:
        """Return the encoders and the rest."""
        head = [*self.image_projection.parameters(), *self.text_projection.parameters()]
        return {
            "image_encoder": self.image_encoder.parameters(),
            "text_encoder": self.text_encoder.parameters(),
            "head": [*head, self.exponent],
        }


def generalised_mean(tokens: Tokens, exponent: Float[Tensor, ""]) -> Float[Tensor, "batch dim"]:
    """Pool the real tokens: 1 is their mean, a large exponent nears their maximum."""
    powers = tokens.local.clamp_min(1e-4) ** exponent
    mean = (powers * tokens.valid[..., None]).sum(dim=1) / tokens.valid.sum(dim=1, keepdim=True)
    return mean ** (1 / exponent)
