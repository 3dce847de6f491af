"""LGUR: granularity-unified representations through a shared dictionary and shared prototypes.

Shao et al., ACM MM 2022 (arXiv 2207.07802). The blocks are in `tireid.methods.lgur.head`.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tireid.losses.identity import identity_loss, sampled_identity_loss
from tireid.methods.base import RetrievalModule, TrainingTerms, align, classifies
from tireid.methods.identity import SampledClasses, sample_classes
from tireid.methods.lgur.head import LgurHead
from tireid.structures import (
    Features,
    Ids,
    Images,
    PairBatch,
    Scalar,
    TokenIds,
    TokenMaps,
    Valid,
    Words,
)

_BRANCHES = ("guided", "dictionary")
# Pairs of features that are aligned: those of each branch, and the ties between the branches.
_PAIRS = {
    "guided": ("image_guided", "text_raw"),
    "dictionary": ("image_dictionary", "text_dictionary"),
    "text": ("text_raw", "text_dictionary"),
    "image": ("image_guided", "image_dictionary"),
}


class Lgur(RetrievalModule):
    """LGUR over any pair of encoders; the head is as wide as the text encoder.

    An image encoder of another width gets a bias-free linear map to the text's width (our choice,
    by a hint in the official code; with the published encoders both are 384 wide and there is no
    map).

    Args:
        num_train_pids: Number of training identities.
        head: Settings of `LgurHead` other than its width.
        alignment: The loss of the four alignment terms. Official: the ranking loss.
        identity_weight: Weight of the identity terms. Official: 1.
        label_smoothing: Of the identity terms, see `identity_loss`. Official: 0.
        identity: `exact`, all identities are scored; or `sampled`, those of the batch and a random
            share of the others, see `tireid.methods.identity`. Official: exact.
        identity_share: Share of the identities in a step of `sampled`.
        seed: Key of that draw.
        alignment_weight: Weight of the alignment terms. Official: 1.
        **base: Encoders, optimiser, schedule and rates, see `RetrievalModule`. Rates:
            `image_encoder`, `text_encoder`, `head`, `classifier` (identity heads, part maps).
    """

    reads_pooled = False
    training_only = ("classifier_weight", "classifier_bias", "sampled_classes.")
    image_projection: nn.Module
    head: LgurHead
    classifier_weight: nn.Parameter
    classifier_bias: nn.Parameter
    sampled_classes: SampledClasses | None
    alignment: nn.Module

    def __init__(
        self,
        *,
        num_train_pids: int,
        head: dict[str, Any],
        alignment: nn.Module,
        identity_weight: float = 1.0,
        label_smoothing: float = 0.0,
        identity: str = "exact",
        identity_share: float = 0.1,
        seed: int = 0,
        alignment_weight: float = 1.0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        dim = int(self.text_encoder.out_dim)  # pyright: ignore[reportArgumentType] -- nn.Module attribute
        image_dim = int(self.image_encoder.out_dim)  # pyright: ignore[reportArgumentType]
        self.image_projection = (
            nn.Identity() if image_dim == dim else nn.Linear(image_dim, dim, bias=False)
        )
        self.head = LgurHead(dim, **head)
        parts, width = self.head.num_parts, self.head.feature_dim
        self.feature_dim = parts * width
        self.feature_parts = parts
        # Six identity heads, one a prototype, shared by both modalities and both branches.
        self.classifier_weight = nn.Parameter(torch.randn(parts, num_train_pids, width) * 0.001)
        self.classifier_bias = nn.Parameter(torch.zeros(parts, 1, num_train_pids))
        whole = {"weight": (self.classifier_weight, 1), "bias": (self.classifier_bias, 2)}
        self.sampled_classes = sample_classes(
            identity, whole, share=identity_share, seed=seed, alignment=alignment
        )
        self.alignment = alignment
        self.identity_weight = identity_weight
        self.label_smoothing = label_smoothing
        self.alignment_weight = alignment_weight

    def image_features(self, images: Images) -> Features:
        """Return the dictionary branch's prototype features, concatenated."""
        tokens = self.image_projection(self.image_encoder(images).local)
        return self.head.encode_image(tokens).flatten(1)

    def text_features(self, token_ids: TokenIds, valid: Valid, words: Words = None) -> Features:
        """Return the dictionary branch's prototype features, concatenated."""
        tokens = self.text_tokens(token_ids, valid, words)
        return self.head.encode_text(tokens.local, tokens.valid).flatten(1)

    def explain_images(self, images: Images) -> TokenMaps:
        """Return the foreground weights and the attention of prototypes and to atoms."""
        return self.head.explain_image(self.image_projection(self.image_encoder(images).local))

    def explain_texts(self, token_ids: TokenIds, valid: Valid, words: Words = None) -> TokenMaps:
        """Return the attention of prototypes and to atoms."""
        tokens = self.text_tokens(token_ids, valid, words)
        return self.head.explain_text(tokens.local, tokens.valid)

    def identity_losses(
        self, features: dict[str, Float[Tensor, "batch parts dim"]], labels: Ids, step: int = 0
    ) -> dict[str, Scalar]:
        """Return the identity loss of each feature set by its name, mean over the prototypes."""
        weight, bias = self.classifier_weight, self.classifier_bias
        loss = partial(identity_loss, smoothing=self.label_smoothing)
        if self.sampled_classes is not None:
            labels, weights, rows = self.sampled_classes.draw(labels, step)
            weight, bias = rows["weight"], rows["bias"]
            loss = partial(sampled_identity_loss, weights=weights, smoothing=self.label_smoothing)
        stacked = torch.cat(list(features.values())).transpose(0, 1)  # (parts, sets * batch, dim)
        # In this order the gradient of the weights comes out as they lie in memory: no copy.
        logits = torch.baddbmm(bias.mT, weight, stacked.mT).mT
        return {
            name: loss(part.flatten(0, 1), labels.repeat(len(part)))
            for name, part in zip(features, logits.chunk(len(features), dim=1), strict=True)
        }

    def training_terms(self, batch: PairBatch, step: int) -> TrainingTerms:
        """Identity and alignment terms of the guided and the dictionary branch, and their ties.

        Without guidance there is no guided branch: its terms and both ties are left out. Without
        the dictionary both branches have one text, and the tie between the texts is left out.
        """
        image_tokens = self.image_projection(self.image_encoder(batch.images).local)
        text = self.text_tokens(batch.token_ids, batch.valid, batch.words)
        features = self.head(image_tokens, text.local, text.valid)
        one_text = features.text_raw is features.text_dictionary
        # All terms are computed from the ranked features, so that gradients can be asked for there.
        images, texts = features.image_dictionary.flatten(1), features.text_dictionary.flatten(1)
        features = features._replace(
            image_dictionary=images.view_as(features.image_dictionary),
            text_dictionary=texts.view_as(features.text_dictionary),
        )
        present = {name: f for name, f in features._asdict().items() if f is not None}
        identity = self.identity_losses(present, batch.label, step)
        classes = None
        if classifies(self.alignment):
            weights = rearrange(self.classifier_weight, "parts ids dim -> ids (parts dim)")
            classes = (batch.label, weights)
        terms: dict[str, Tensor] = {}
        for draw, (name, (rows, columns)) in enumerate(_PAIRS.items()):
            if rows not in present or columns not in present or (one_text and name == "text"):
                continue
            if name in _BRANCHES:
                terms[f"id_{name}"] = self.identity_weight * (identity[rows] + identity[columns])
            aligned = align(
                self.alignment,
                present[rows],
                present[columns],
                batch.pid,
                draw=4 * step + draw,
                classes=classes,
            )
            terms[f"alignment_{name}"] = self.alignment_weight * aligned
        return TrainingTerms(terms, images, texts)

    def parameter_groups(self) -> dict[str, Iterable[nn.Parameter]]:
        """Return the official code's groups: part maps and identity heads have their own rate."""
        part_maps = self.head.part_projection
        sampled = () if self.sampled_classes is None else self.sampled_classes.parameters()
        return {
            "image_encoder": self.image_encoder.parameters(),
            "text_encoder": self.text_encoder.parameters(),
            "head": [
                *self.image_projection.parameters(),
                *(p for p in self.head.parameters() if p is not part_maps),
            ],
            "classifier": [part_maps, self.classifier_weight, self.classifier_bias, *sampled],
        }
