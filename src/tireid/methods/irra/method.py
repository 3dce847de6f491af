"""IRRA: similarity distribution matching, identities, and masked words told by the image.

Jiang & Ye, Cross-Modal Implicit Relation Reasoning and Aligning for Text-to-Image Person Retrieval,
CVPR 2023 (arXiv 2303.12501). The reasoning is in `tireid.methods.irra.relation`.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tireid.data.masking import WordMasking
from tireid.losses.masked_words import masked_word_loss
from tireid.methods.base import (
    RetrievalModule,
    TrainingTerms,
    align,
    freeze_unused,
    token_contributions,
)
from tireid.methods.identity import SampledClasses, identity_terms, sample_linear
from tireid.methods.irra.relation import RelationReasoning
from tireid.structures import (
    Features,
    Images,
    PairBatch,
    TokenIds,
    Tokens,
    Valid,
    Words,
)


class Irra(RetrievalModule):
    """IRRA over any pair of encoders; all is as wide as the text encoder.

    Ranked are the encoders' pooled features: of CLIP, the class token and the end token. The image
    tokens that predict words are the pooled feature, in place of a class token where an encoder has
    none, and the local ones. An image encoder of another width gets a bias-free linear map to the
    text's (our choice; CLIP's two towers end in one width).

    Args:
        num_train_pids: Number of training identities.
        alignment: Loss over `(image_features, text_features, pids)`. Official: SDM.
        masking: How the data module masks words, for the number of them.
        relation: Settings of `RelationReasoning` other than its width.
        masked_for: Which losses see the masked caption: `relation`, only the prediction of the
            masked words; or `all`, as the official code, which masks in place.
        attend_padding: Whether the reasoning attends to padding, id 0 up to `padded_length`, as
            the official code. Needs CLIP's text encoder, which gives padding a meaning.
        padded_length: Length of a caption with its padding; for `attend_padding`.
        end_position: Text feature: the encoder's pooled one, of CLIP the `last` token; or that of
            the `largest_id`, the first if there are several, as the official code, which needs
            CLIP's text encoder. They differ for captions that are empty or hold an end token.
        alignment_weight: Weight of the alignment loss. Official: 1.
        identity_weight: Weight of the identity loss, the mean over both modalities. Official: 1.
        label_smoothing: Of the identity loss, see `identity_loss`. Official: 0.
        identity: `exact`, all identities are scored; or `sampled`, those of the batch and a random
            share of the others, see `tireid.methods.identity`. Official: exact.
        identity_share: Share of the identities in a step of `sampled`.
        seed: Key of that draw.
        word_weight: Weight of the masked-word prediction. Official: 1; 0 builds none of it.
        **base: Encoders, optimiser, schedule and rates, see `RetrievalModule`. Rates:
            `image_encoder`, `text_encoder`, `head` (reasoning), `classifier` (identities, words);
            `norms`, of those around the reasoning, is `head` where it is not given.

    Raises:
        ValueError: If a switch is unknown, or needs CLIP's text encoder and there is another.
    """

    training_only = ("classifier.", "sampled_classes.", "relation.")
    image_projection: nn.Module
    relation: RelationReasoning | None
    classifier: nn.Linear
    sampled_classes: SampledClasses | None
    alignment: nn.Module

    def __init__(
        self,
        *,
        num_train_pids: int,
        alignment: nn.Module,
        masking: WordMasking,
        relation: dict[str, Any],
        masked_for: str = "relation",
        attend_padding: bool = False,
        padded_length: int = 77,
        end_position: str = "last",
        alignment_weight: float = 1.0,
        identity_weight: float = 1.0,
        label_smoothing: float = 0.0,
        identity: str = "exact",
        identity_share: float = 0.1,
        seed: int = 0,
        word_weight: float = 1.0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if masked_for not in ("relation", "all"):
            raise ValueError(f"masked_for: expected relation or all, got {masked_for!r}")
        if end_position not in ("last", "largest_id"):
            raise ValueError(f"end_position: expected last or largest_id, got {end_position!r}")
        if attend_padding:
            self._need_clip("attend_padding=true")
        if end_position == "largest_id":
            self._need_clip("end_position=largest_id")
        image_dim = int(self.image_encoder.out_dim)  # pyright: ignore[reportArgumentType] -- nn.Module attribute
        dim = int(self.text_encoder.out_dim)  # pyright: ignore[reportArgumentType]
        self.feature_dim = dim
        self.masked_for = masked_for
        self.attend_padding, self.padded_length = attend_padding, padded_length
        self.end_position = end_position
        self.image_projection = (
            nn.Identity() if image_dim == dim else nn.Linear(image_dim, dim, bias=False)
        )
        self.classifier = nn.Linear(dim, num_train_pids)
        nn.init.normal_(self.classifier.weight, std=0.001)
        nn.init.zeros_(self.classifier.bias)
        freeze_unused(self.classifier, identity_weight, alignment)
        self.sampled_classes = sample_linear(
            self.classifier, identity, identity_weight, identity_share, seed, alignment
        )
        self.relation = RelationReasoning(dim, masking.num_ids, **relation) if word_weight else None
        self.alignment = alignment
        self.alignment_weight = alignment_weight
        self.identity_weight = identity_weight
        self.label_smoothing = label_smoothing
        self.word_weight = word_weight

    def _need_clip(self, setting: str) -> None:
        if getattr(self.text_encoder, "space", None) != "clip":
            raise ValueError(
                f"model.{setting}: expected CLIP's text encoder (text_encoder=clip_text), whose "
                f"end token and padding it reads, got {type(self.text_encoder).__name__}"
            )

    def image_features(self, images: Images) -> Features:
        """Return the mapped pooled feature, of CLIP the class token, not normalised."""
        return self._image_feature(self.image_encoder(images))

    def _image_feature(self, tokens: Tokens) -> Tensor:
        return self.image_projection(tokens.pooled)

    def text_features(self, token_ids: TokenIds, valid: Valid, words: Words = None) -> Features:
        """Return the pooled feature, of CLIP the end token, not normalised."""
        return self._text_feature(self.text_tokens(token_ids, valid, words), token_ids)

    def _text_feature(self, tokens: Tokens, token_ids: TokenIds) -> Tensor:
        if self.end_position == "last":
            return tokens.pooled
        end = token_ids.masked_fill(~tokens.valid, 0).argmax(dim=1)
        return tokens.local[torch.arange(len(end), device=end.device), end]

    def image_contributions(
        self, images: Images, texts: Features
    ) -> Float[Tensor, "batch length"] | None:
        """Return the terms of the score by image token, of an encoder that pools its tokens."""
        with torch.enable_grad():
            tokens = self.image_encoder(images)
            return token_contributions(tokens, self._image_feature, self.image_projection, texts)

    def text_contributions(
        self, token_ids: TokenIds, valid: Valid, images: Features
    ) -> Float[Tensor, "batch length"] | None:
        """Return the terms of the score by text token, of an encoder that pools its tokens."""
        with torch.enable_grad():
            tokens = self.text_tokens(token_ids, valid)
            feature = partial(self._text_feature, token_ids=token_ids)
            return token_contributions(tokens, feature, nn.Identity(), images)

    def training_terms(self, batch: PairBatch, step: int) -> TrainingTerms:
        """Align and identify the two modalities, and predict the masked words."""
        masked = batch.masked
        if masked is None:
            raise ValueError("expected a batch with masked words; give model.masking to the data")
        image_tokens = self.image_encoder(batch.images)
        images = self.image_projection(image_tokens.pooled)
        masked_tokens = None
        if self.word_weight or self.masked_for == "all":
            masked_tokens = self._masked_tokens(masked.token_ids, batch.valid)
        if self.masked_for == "all" and masked_tokens is not None:
            # Official code: the caption is masked in place, so that all losses see it masked.
            length = batch.valid.shape[1]
            seen = Tokens(masked_tokens.pooled, masked_tokens.local[:, :length], batch.valid)
            texts = self._text_feature(seen, masked.token_ids)
        else:
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
            terms["id"] = self.identity_weight * both / 2
        if masked_tokens is not None and self.relation is not None:
            keys = torch.cat([image_tokens.pooled[:, None], image_tokens.local], dim=1)
            valid = None if self.attend_padding else masked_tokens.valid
            scores = self.relation(masked_tokens.local, self.image_projection(keys), masked, valid)
            terms["words"] = self.word_weight * masked_word_loss(scores, masked.words)
        return TrainingTerms(terms, images, texts)

    def _masked_tokens(self, token_ids: TokenIds, valid: Valid) -> Tokens:
        """Encode masked captions, with their padding as the reasoning sees it."""
        if not self.attend_padding:
            return self.text_tokens(token_ids, valid)
        missing = self.padded_length - token_ids.shape[1]
        padded = F.pad(token_ids.masked_fill(~valid, 0), (0, missing))
        return self.text_tokens(padded, F.pad(valid, (0, missing)))

    def parameter_groups(self) -> dict[str, Iterable[nn.Parameter]]:
        """Return the encoders, the reasoning, and the heads of identities and words."""
        relation: list[nn.Parameter] = []
        norms: list[nn.Parameter] = []
        words: list[nn.Parameter] = []
        if self.relation is not None:
            relation = list(self.relation.parameters())
            words = list(self.relation.head.parameters())
            if "norms" in self.learning_rates:
                norms = [p for norm in self.relation.norms for p in norm.parameters()]
        sampled = () if self.sampled_classes is None else self.sampled_classes.parameters()
        apart = {id(parameter) for parameter in (*norms, *words)}
        head = [*self.image_projection.parameters(), *relation]
        groups: dict[str, Iterable[nn.Parameter]] = {
            "image_encoder": self.image_encoder.parameters(),
            "text_encoder": self.text_encoder.parameters(),
            "head": [p for p in head if id(p) not in apart],
            "classifier": [*self.classifier.parameters(), *sampled, *words],
        }
        return groups | ({"norms": norms} if norms else {})
