"""LGUR: granularity-unified representations through a shared dictionary and shared prototypes.

Shao et al., ACM MM 2022 (arXiv 2207.07802). The blocks are in `tireid.methods.lgur_modules`.
"""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tireid.losses.identity import identity_loss
from tireid.losses.ranking import RankingLoss
from tireid.methods.base import RetrievalModule
from tireid.methods.lgur_modules import LgurFeatures, LgurHead
from tireid.structures import PairBatch


class Lgur(RetrievalModule):
    """LGUR over any pair of encoders; the head is as wide as the text encoder.

    An image encoder of another width gets a bias-free linear map to the text's width (our choice,
    by a hint in the official code; with the published encoders both are 384 wide and there is no
    map).

    Args:
        num_train_pids: Number of training identities.
        head: Settings of `LgurHead` other than its width.
        ranking: The loss of the four ranking terms.
        identity_weight: Weight of the identity terms. Official: 1.
        ranking_weight: Weight of the ranking terms. Official: 1.
        **base: Encoders, optimiser, schedule and rates, see `RetrievalModule`. Rates:
            `image_encoder`, `text_encoder`, `head`, `classifier` (identity heads, part maps).
    """

    training_only = ("classifier_weight", "classifier_bias")
    image_projection: nn.Module
    head: LgurHead
    classifier_weight: nn.Parameter
    classifier_bias: nn.Parameter
    ranking: RankingLoss

    def __init__(
        self,
        *,
        num_train_pids: int,
        head: dict[str, Any],
        ranking: RankingLoss,
        identity_weight: float = 1.0,
        ranking_weight: float = 1.0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        dim = int(self.text_encoder.out_dim)  # pyright: ignore[reportArgumentType] -- nn.Module attribute
        image_dim = int(self.image_encoder.out_dim)  # pyright: ignore[reportArgumentType]
        self.image_projection = (
            nn.Identity() if image_dim == dim else nn.Linear(image_dim, dim, bias=False)
        )
        self.head = LgurHead(dim, **head)
        parts, width = self.head.num_prototypes, self.head.feature_dim
        # Six identity heads, one a prototype, shared by both modalities and both branches.
        self.classifier_weight = nn.Parameter(torch.randn(parts, num_train_pids, width) * 0.001)
        self.classifier_bias = nn.Parameter(torch.zeros(parts, 1, num_train_pids))
        self.ranking = ranking
        self.identity_weight = identity_weight
        self.ranking_weight = ranking_weight

    def encode_image(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch dim"]:
        """Return the dictionary branch's prototype features, concatenated, with unit norm."""
        tokens = self.image_projection(self.image_encoder(images).local)
        return F.normalize(self.head.encode_image(tokens).flatten(1), dim=-1)

    def encode_text(
        self, token_ids: Int[Tensor, "batch length"], valid: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch dim"]:
        """Return the dictionary branch's prototype features, concatenated, with unit norm."""
        tokens = self.text_encoder(token_ids, valid)
        return F.normalize(self.head.encode_text(tokens.local, tokens.valid).flatten(1), dim=-1)

    def identity_losses(
        self, features: LgurFeatures, labels: Int[Tensor, " batch"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Return the identity loss of each feature set by its name, mean over the prototypes."""
        stacked = torch.cat(features).transpose(0, 1)  # (parts, sets * batch, feature)
        logits = torch.baddbmm(self.classifier_bias, stacked, self.classifier_weight.mT)
        return {
            name: identity_loss(part.flatten(0, 1), labels.repeat(len(part)))
            for name, part in zip(features._fields, logits.chunk(len(features), dim=1), strict=True)
        }

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """Identity and ranking terms of the guided and the dictionary branch, and their ties."""
        image_tokens = self.image_projection(self.image_encoder(batch.images).local)
        text = self.text_encoder(batch.token_ids, batch.valid)
        features = self.head(image_tokens, text.local, text.valid)

        first_draw = self.global_step * 4

        def rank(rows: Tensor, columns: Tensor, draw: int) -> Tensor:
            return self.ranking_weight * self.ranking(
                rows, columns, batch.pid, draw=first_draw + draw
            )

        identity = self.identity_losses(features, batch.label)

        def identify(image: str, text: str) -> Tensor:
            return self.identity_weight * (identity[image] + identity[text])

        terms = {
            "id_guided": identify("image_guided", "text_raw"),
            "ranking_guided": rank(features.image_guided, features.text_raw, 0),
            "id_dictionary": identify("image_dictionary", "text_dictionary"),
            "ranking_dictionary": rank(features.image_dictionary, features.text_dictionary, 1),
            "ranking_text": rank(features.text_raw, features.text_dictionary, 2),
            "ranking_image": rank(features.image_guided, features.image_dictionary, 3),
        }
        return self.total_loss(terms, len(batch.pid))

    def parameter_groups(self) -> dict[str, Iterable[nn.Parameter]]:
        """Return the official code's groups: part maps and identity heads have their own rate."""
        part_maps = self.head.part_projection
        return {
            "image_encoder": self.image_encoder.parameters(),
            "text_encoder": self.text_encoder.parameters(),
            "head": [
                *self.image_projection.parameters(),
                *(p for p in self.head.parameters() if p is not part_maps),
            ],
            "classifier": [part_maps, self.classifier_weight, self.classifier_bias],
        }
