"""RDE: a global and a token-selection embedding, trained on the pairs that both trust.

Qin et al., "Noisy-Correspondence Learning for Text-to-Image Person Re-identification", CVPR 2024
(arXiv 2308.09911). Official code: QinYang79/RDE at b3fd396, folder 2024-CVPR-RDE.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tireid.losses.precision import full_precision
from tireid.methods.base import (
    RetrievalModule,
    TrainingPass,
    TrainingTerms,
    align,
    token_contributions,
)
from tireid.methods.rde.division import DivisionSettings
from tireid.methods.rde.selection import TokenEmbedding, choose, words_between
from tireid.methods.rde.trust import STATE, PairLosses, Trust
from tireid.structures import (
    Features,
    Images,
    PairBatch,
    Scalar,
    TokenIds,
    Tokens,
    Valid,
    Words,
)

EMBEDDINGS = ("global", "tokens")
SCORES = ("auto", "attention", "similarity")


class Rde(RetrievalModule):
    """RDE over any pair of encoders.

    Encoders that do not end in one space get a linear map to `embedding_dim` each, for all their
    tokens. That is ours: the published ones are the towers of one CLIP, and there is no map.

    Args:
        num_train_pids: Number of training identities; not used, since nothing is classified.
        alignment: Loss of either embedding. Official: `TalLoss`, the only one with a division.
        embedding_dim: Width of the global embedding where the encoders do not share a space.
        token_dim: Width of the token embedding. Official: 1024.
        token_share: Share of the tokens that are chosen. Official: 0.3.
        text_length: Positions that the share of a text is of, start and end token included, however
            long the captions of a batch are. Official: 77, so at most 22 words are chosen.
        scores: What tokens are chosen by. `attention`: what the class or end token gives them in
            the last block, which only CLIP's towers tell; official. `similarity`: the cosine with
            the pooled feature, for any encoder; ours. `auto`: attention where there is some.
        norm: Of the token embeddings; see `TokenEmbedding`.
        division: How pairs are divided; None: they are not.
        seed: Key of the division's coins.
        **base: Encoders, optimiser, schedule and rates, see `RetrievalModule`. Rates:
            `image_encoder`, `text_encoder`, `head`.

    Raises:
        ValueError: If a setting is out of its range, or the encoders or the loss do not fit it.
    """

    image_projection: nn.Module
    text_projection: nn.Module
    image_token_embedding: TokenEmbedding
    text_token_embedding: TokenEmbedding
    alignment: nn.Module

    def __init__(
        self,
        *,
        num_train_pids: int,
        alignment: nn.Module,
        embedding_dim: int = 512,
        token_dim: int = 1024,
        token_share: float = 0.3,
        text_length: int = 77,
        scores: str = "auto",
        norm: str = "frozen",
        division: DivisionSettings | None = None,
        seed: int = 0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        division = DivisionSettings(enabled=False) if division is None else division
        _check(scores, token_share, text_length)
        self._check_parts(scores, alignment, division)
        width, projections = self._projections(embedding_dim)
        self.image_projection, self.text_projection = projections
        self.image_token_embedding = TokenEmbedding(width, token_dim, norm)
        self.text_token_embedding = TokenEmbedding(width, token_dim, norm)
        self.feature_dim = width + token_dim
        self.alignment = alignment
        self.trust = Trust(division, seed)
        self._scores = scores
        self._token_share = token_share
        self._text_count = max(1, int((text_length - 2) * token_share))
        self._widths = [width, token_dim]

    def _check_parts(self, scores: str, alignment: nn.Module, division: DivisionSettings) -> None:
        for encoder in (self.image_encoder, self.text_encoder):
            if scores == "attention" and not hasattr(encoder, "with_attention"):
                raise ValueError(
                    "scores: expected similarity or auto with an encoder that does not tell the "
                    f"attention of its class or end token, got attention and "
                    f"{type(encoder).__name__}; set model.scores=auto, or choose the encoders of "
                    "one CLIP"
                )
        if division.enabled and not hasattr(alignment, "per_pair"):
            raise ValueError(
                "division: expected an alignment loss that is a sum over pairs, as "
                f"model/alignment=tal, got {type(alignment).__name__}; set "
                "model.division.enabled=false"
            )

    def _projections(self, width: int) -> tuple[int, tuple[nn.Module, nn.Module]]:
        """Return the width of the shared space, and what maps either modality to it."""
        encoders = (self.image_encoder, self.text_encoder)
        widths = [int(encoder.out_dim) for encoder in encoders]  # pyright: ignore[reportArgumentType] -- nn.Module attribute
        spaces = [getattr(encoder, "space", None) for encoder in encoders]
        if spaces[0] is not None and spaces[0] == spaces[1] and widths[0] == widths[1]:
            return widths[0], (nn.Identity(), nn.Identity())
        return width, (nn.Linear(widths[0], width), nn.Linear(widths[1], width))

    def image_features(self, images: Images) -> Features:
        """Return both embeddings of images side by side, each of unit norm."""
        return _embeddings(self._chosen_patches(images), self.image_token_embedding)

    def _chosen_patches(self, images: Tensor) -> "Chosen":
        tokens, attention = self._encoded(self.image_encoder, images)
        count = max(1, int(tokens.local.shape[1] * self._token_share))
        return _chosen(tokens, attention, tokens.valid, count, self.image_projection)

    def text_features(self, token_ids: TokenIds, valid: Valid, words: Words = None) -> Features:
        """Return both embeddings of texts side by side, each of unit norm."""
        return _embeddings(self._chosen_words(token_ids, valid, words), self.text_token_embedding)

    def _chosen_words(self, token_ids: Tensor, valid: Tensor, words: Tensor | None) -> "Chosen":
        given = () if words is None else (words,)
        tokens, attention = self._encoded(self.text_encoder, token_ids, valid, *given)
        # With attention it is known which tokens are start and end; LGUR counts them as words.
        candidates = valid if attention is None else words_between(valid)
        return _chosen(tokens, attention, candidates, self._text_count, self.text_projection)

    def image_contributions(self, images: Images, texts: Features) -> Float[Tensor, "batch length"]:
        """Return the terms of the score by patch: those of the token embedding are all there.

        Those of the global embedding are where the encoder pools its tokens.
        """
        with torch.enable_grad():
            chosen = self._chosen_patches(images)
            embed = self.image_token_embedding
            return self._contributions(chosen, self.image_projection, embed, texts)

    def text_contributions(
        self, token_ids: TokenIds, valid: Valid, images: Features
    ) -> Float[Tensor, "batch length"]:
        """Return the terms of the score by text token, as for images."""
        with torch.enable_grad():
            chosen = self._chosen_words(token_ids, valid, None)
            embed = self.text_token_embedding
            return self._contributions(chosen, self.text_projection, embed, images)

    def _contributions(
        self, chosen: "Chosen", project: nn.Module, embed: TokenEmbedding, others: Tensor
    ) -> Tensor:
        of_global, of_tokens = others.split(self._widths, 1)
        terms = embed.contributions(chosen.local, chosen.valid, of_tokens)
        everywhere = terms.new_zeros(chosen.tokens.valid.shape).scatter(1, chosen.places, terms)
        pooled = token_contributions(
            chosen.tokens, lambda tokens: project(tokens.pooled), project, of_global
        )
        whole = everywhere if pooled is None else everywhere + pooled
        return whole.detach() / math.sqrt(len(EMBEDDINGS))  # both have unit norm in the score

    def _encoded(
        self, encoder: nn.Module, *inputs: Tensor
    ) -> tuple[Tokens, Float[Tensor, "batch length"] | None]:
        attend: Callable[..., Any] | None = getattr(encoder, "with_attention", None)
        if attend is None or self._scores == "similarity":
            return encoder(*inputs), None
        return attend(*inputs)

    def training_terms(self, batch: PairBatch, step: int) -> TrainingTerms:
        """Align either embedding, with the pairs that are trusted as anchors."""
        images = self.image_features(batch.images)
        texts = self.text_features(batch.token_ids, batch.valid, batch.words)
        kept = self.trust.of(batch.index)
        terms: dict[str, Scalar] = {}
        for number, (image, text) in enumerate(self._pairs(images, texts)):
            name = f"alignment_{EMBEDDINGS[number]}"
            if kept is None:
                draw = len(EMBEDDINGS) * step + number
                terms[name] = align(self.alignment, image, text, batch.pid, draw=draw)
            else:
                terms[name] = self.alignment(image, text, batch.pid, kept)
        return TrainingTerms(terms, images, texts)

    def pair_losses(self, batch: PairBatch) -> PairLosses:
        """Return the loss of each pair of the global batch, by either embedding."""
        images = self.image_features(batch.images)
        texts = self.text_features(batch.token_ids, batch.valid, batch.words)
        per_pair: Any = self.alignment.per_pair
        first, second = (per_pair(*pair, batch.pid) for pair in self._pairs(images, texts))
        return first, second

    def _pairs(self, images: Features, texts: Features) -> Iterable[tuple[Tensor, Tensor]]:
        """Return the features of images and texts by each of the embeddings."""
        return zip(images.split(self._widths, 1), texts.split(self._widths, 1), strict=True)

    def parameter_groups(self) -> dict[str, Iterable[nn.Parameter]]:
        """Return the encoders and the rest."""
        head = (
            *(self.image_projection, self.text_projection),
            *(self.image_token_embedding, self.text_token_embedding),
        )
        return {
            "image_encoder": self.image_encoder.parameters(),
            "text_encoder": self.text_encoder.parameters(),
            "head": [parameter for part in head for parameter in part.parameters()],
        }

    def begin_epoch(self, epoch: int, training_pass: Callable[..., TrainingPass]) -> None:
        """Divide the training pairs."""
        self.trust.begin_epoch(epoch, self, self.pair_losses, training_pass)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the division of the epoch, which depends on weights of the past."""
        checkpoint[STATE] = self.trust.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the division; a checkpoint of weights alone has none."""
        if STATE in checkpoint:
            self.trust.load_state(checkpoint[STATE])


def _check(scores: str, token_share: float, text_length: int) -> None:
    if scores not in SCORES:
        raise ValueError(f"scores: expected one of {', '.join(SCORES)}, got {scores!r}")
    if not 0 < token_share <= 1:
        raise ValueError(f"token_share: expected a share in (0, 1], got {token_share}")
    if text_length < 3:
        raise ValueError(f"text_length: expected at least 3 positions, got {text_length}")


class Chosen(NamedTuple):
    """Tokens of a modality, and those of them that are embedded.

    Attributes:
        tokens: As the encoder returns them.
        pooled: The mapped pooled feature.
        local: The mapped chosen tokens.
        places: Their places.
        valid: True where one is real.
    """

    tokens: Tokens
    pooled: Features
    local: Float[Tensor, "batch chosen dim"]
    places: Int[Tensor, "batch chosen"]
    valid: Bool[Tensor, "batch chosen"]


def _chosen(
    tokens: Tokens,
    attention: Float[Tensor, "batch length"] | None,
    candidates: Valid,
    count: int,
    project: nn.Module,
) -> Chosen:
    """Map all tokens and choose `count` of the candidates."""
    pooled, local = project(tokens.pooled), project(tokens.local)
    if attention is None:
        with torch.no_grad(), full_precision(pooled, local) as (query, keys):
            attention = F.cosine_similarity(query[:, None], keys, dim=-1)
    places, valid = choose(attention, candidates, count)
    rows = torch.arange(len(local), device=local.device)[:, None]
    return Chosen(tokens, pooled, local[rows, places], places, valid)


def _embeddings(chosen: Chosen, embed: TokenEmbedding) -> Features:
    """Return the pooled feature and the embedding of the chosen tokens, both of unit norm."""
    with full_precision(chosen.pooled, embed(chosen.local, chosen.valid)) as sides:
        return torch.cat([F.normalize(side, dim=-1) for side in sides], dim=1)
