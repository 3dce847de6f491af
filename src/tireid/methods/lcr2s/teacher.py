"""LCR2S's teacher, the "richer" model: a dual encoder whose features draw on support sets.

Yan et al., ACM MM 2023 (arXiv 2310.11210). The paper's text was not available: what is its own and
what is ours is said at each setting.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from tireid.data.supports import SupportSettings
from tireid.encoders.batch_norm import sample_weights
from tireid.losses.gather import gather_with_gradient
from tireid.losses.identity import identity_loss
from tireid.methods.base import RetrievalModule, TrainingTerms, align, freeze_unused
from tireid.methods.lcr2s.fusion import (
    SupportFusion,
    check_range,
    check_weights,
    dual_terms,
    freeze_heads,
)
from tireid.methods.lcr2s.supports import (
    FeatureMemory,
    batch_supports,
    drop_supports,
    shares_of_processes,
    take_slots,
)
from tireid.structures import Features, Images, PairBatch, TokenIds, Valid, Words

SOURCES = ("dataset", "batch", "memory")
# Of a teacher in training; also four times as many are there in the 32 bits that a CPU generator
# takes of a seed (LGUR draws four times a step), and no student has as many steps.
_FIRST_DRAW = 2**29


class SupportFeatures(NamedTuple):
    """Features of the support sets of a batch.

    Attributes:
        images: Not normalised; what stands in empty slots has no meaning.
        images_valid: True = a filled slot.
        texts: Not normalised; what stands in empty slots has no meaning.
        texts_valid: True = a filled slot.
    """

    images: Float[Tensor, "batch image_slots dim"]
    images_valid: Bool[Tensor, "batch image_slots"]
    texts: Float[Tensor, "batch text_slots dim"]
    texts_valid: Bool[Tensor, "batch text_slots"]


class Lcr2sTeacher(RetrievalModule):
    """Trains a dual encoder and, over it, the fusion of each feature with its support set.

    As a retrieval model it embeds a sample by itself, with an empty support. With supports of the
    evaluated identities it would be an oracle.

    Args:
        num_train_pids: Number of training identities.
        dual: Makes the dual encoder from the arguments of any method (a partial).
        fusion: Arguments of `SupportFusion` other than its width. `parts` left out, or None: those
            that the dual encoder's features are made of.
        alignment: Loss over `(image_features, text_features, pids)` of the enriched features.
        supports: Size and content of support sets. The sources "batch" and "memory" take its slots
            and fill them with what they hold.
        source: Where supports come from. "dataset": the batch brings them, to be encoded.
            "batch": other pairs of the global batch, which `identity_balanced` batches hold; costs
            no encoding. "memory": the latest features of past batches, without gradient.
        memory: Arguments of both `FeatureMemory` other than their width ("memory").
        share_fusion: Whether both modalities have one fusion.
        support_dropout: Probability that a training anchor of either modality loses its whole
            support.
        slot_dropout: Probability that a slot is emptied, else.
        alignment_weight: Weight of the alignment of the enriched features.
        identity_weight: Weight of their identity loss; one classifier serves both modalities.
        label_smoothing: Of this identity loss, see `identity_loss`.
        anchor_weight: Weight of the dual encoder's own terms, on features without support.
        seed: Keys all draws, with the step.
        image_encoder: Image encoder of the dual encoder.
        text_encoder: Text encoder of the dual encoder.
        **base: Optimiser, schedule and rates, see `RetrievalModule`. Rates: the dual encoder's.

    Raises:
        ValueError: If a setting is out of its range.

    Source:
        Paper: supports are other views of the identity, fused by multi-head attention; the enriched
        image and text features are aligned. Not known: all losses' kinds and weights. Ours:
        support and slot dropout, and supports from the batch or a memory.
    """

    seed_offset = 1_000_003
    dual: RetrievalModule
    fusions: nn.ModuleList
    image_memory: FeatureMemory | None
    text_memory: FeatureMemory | None
    classifier: nn.Linear
    alignment: nn.Module

    def __init__(
        self,
        *,
        num_train_pids: int,
        dual: Callable[..., RetrievalModule],
        fusion: dict[str, Any],
        alignment: nn.Module,
        supports: SupportSettings,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        source: str = "dataset",
        memory: dict[str, Any] | None = None,
        share_fusion: bool = False,
        support_dropout: float = 0.0,
        slot_dropout: float = 0.0,
        alignment_weight: float = 1.0,
        identity_weight: float = 1.0,
        label_smoothing: float = 0.0,
        anchor_weight: float = 0.0,
        seed: int = 0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        _check_source(source, supports)
        check_range(1.0, support_dropout=support_dropout, slot_dropout=slot_dropout)
        check_weights(
            "the teacher",
            alignment_weight=alignment_weight,
            identity_weight=identity_weight,
            anchor_weight=anchor_weight,
        )
        self.dual = dual(
            num_train_pids=num_train_pids,
            image_encoder=image_encoder,
            text_encoder=text_encoder,
            **base,
        )
        self.training_only = ("classifier.", *(f"dual.{name}" for name in self.dual.training_only))
        self.feature_dim = self.dual.feature_dim
        if fusion.get("parts") is None:
            fusion = fusion | {"parts": self.dual.feature_parts}
        self.fusions = nn.ModuleList(
            SupportFusion(self.feature_dim, **fusion) for _ in range(1 if share_fusion else 2)
        )
        self.classifier = nn.Linear(self.feature_dim, num_train_pids)
        freeze_unused(self.classifier, identity_weight, alignment)
        self.alignment = alignment
        self.slots = supports
        self.source = source
        self.takes_supports = source == "dataset"  # from elsewhere they come encoded
        self.support_dropout = support_dropout
        self.slot_dropout = slot_dropout
        self.alignment_weight = alignment_weight
        self.identity_weight = identity_weight
        self.label_smoothing = label_smoothing
        self.anchor_weight = anchor_weight
        self.seed = seed
        self.image_memory = self.text_memory = None
        if source == "memory":
            self._add_memories(**(memory or {}))
        if not anchor_weight:
            freeze_heads(self.dual)

    def _add_memories(self, **settings: Any) -> None:
        self.image_memory = FeatureMemory(dim=self.feature_dim, **settings)
        self.text_memory = FeatureMemory(dim=self.feature_dim, **settings)
        # All ranks write the same, so nothing is to be sent before every step.
        self._ddp_params_and_buffers_to_ignore = [
            name for name, _ in self.named_buffers() if "_memory." in name
        ]

    @property
    def image_fusion(self) -> SupportFusion:
        """The fusion of images."""
        return self.fusions[0]  # pyright: ignore[reportReturnType] -- nn.ModuleList's members

    @property
    def text_fusion(self) -> SupportFusion:
        """The fusion of texts, that of images where they share one."""
        return self.fusions[-1]  # pyright: ignore[reportReturnType]

    def image_features(self, images: Images) -> Features:
        """Return the image features enriched by themselves alone, not normalised."""
        return _alone(self.image_fusion, self.dual.image_features(images))

    def text_features(self, token_ids: TokenIds, valid: Valid, words: Words = None) -> Features:
        """Return the text features enriched by themselves alone, not normalised."""
        return _alone(self.text_fusion, self.dual.text_features(token_ids, valid, words))

    def enrich(self, batch: PairBatch, step: int) -> tuple[Features, Features]:
        """Return the enriched features of images and texts, not normalised.

        Args:
            batch: Training pairs, with support sets if `source` is "dataset".
            step: Number of the step; keys the draws.
        """
        anchors = dual_terms(self.dual, batch, step, 0.0)
        return self._fuse(anchors, batch, step)

    def training_terms(self, batch: PairBatch, step: int) -> TrainingTerms:
        """Align and identify the enriched features; supervise the others by `anchor_weight`."""
        draw = step + _FIRST_DRAW
        anchors = dual_terms(self.dual, batch, draw, self.anchor_weight)
        images, texts = self._fuse(anchors, batch, step)
        classes = (batch.label, self.classifier.weight)
        aligned = align(self.alignment, images, texts, batch.pid, draw=draw, classes=classes)
        terms = {"alignment": self.alignment_weight * aligned}
        if self.identity_weight:
            identity = partial(identity_loss, smoothing=self.label_smoothing)
            terms["id"] = self.identity_weight * (
                identity(self.classifier(images), batch.label)
                + identity(self.classifier(texts), batch.label)
            )
        terms |= {f"anchor_{name}": term for name, term in anchors.terms.items()}
        return TrainingTerms(terms, images, texts)

    def support_features(
        self, anchors: TrainingTerms, batch: PairBatch, step: int
    ) -> SupportFeatures:
        """Return the features of a batch's support sets, before any is dropped.

        Args:
            anchors: Un-fused features of the batch.
            batch: Training pairs.
            step: Number of the step; keys the draws.

        Raises:
            ValueError: If `source` is "dataset" and the batch brings no support sets.
        """
        if self.source == "dataset":
            return self._encode_supports(batch)
        generator = self._generator(anchors.images, step, stream=0)
        if self.image_memory is not None and self.text_memory is not None:
            where = (batch.pid, batch.image_id)
            images = self.image_memory.draw(*where, self.slots.num_images, generator, step)
            texts = self.text_memory.draw(*where, self.slots.num_texts, generator, step)
            image_pool = self.image_memory.features.to(anchors.images.dtype)
            text_pool = self.text_memory.features.to(anchors.texts.dtype)
        else:
            images = texts = batch_supports(
                batch.pid, batch.image_id, self.slots.num_images, generator
            )
            if not self.slots.paired:
                texts = batch_supports(batch.pid, batch.image_id, self.slots.num_texts, generator)
            image_pool = gather_with_gradient(anchors.images)
            text_pool = gather_with_gradient(anchors.texts)
        return SupportFeatures(*take_slots(image_pool, images), *take_slots(text_pool, texts))

    def parameter_groups(self) -> dict[str, Iterable[nn.Parameter]]:
        """Return the dual encoder's groups; the fusion joins its head, the classifier its own."""
        groups = {name: list(group) for name, group in self.dual.parameter_groups().items()}
        groups["head"] += self.fusions.parameters()
        groups["classifier"] += self.classifier.parameters()
        return {**groups}

    def _fuse(self, anchors: TrainingTerms, batch: PairBatch, step: int) -> tuple[Tensor, Tensor]:
        supports = self.support_features(anchors, batch, step)
        images_valid, texts_valid = supports.images_valid, supports.texts_valid
        if self.training and (self.support_dropout or self.slot_dropout):
            generator = self._generator(anchors.images, step, stream=1)
            probabilities = (self.support_dropout, self.slot_dropout)
            images_valid = drop_supports(images_valid, *probabilities, generator)
            texts_valid = drop_supports(texts_valid, *probabilities, generator)
        images = self.image_fusion(anchors.images, supports.images, images_valid)
        texts = self.text_fusion(anchors.texts, supports.texts, texts_valid)
        if self.training and self.image_memory is not None and self.text_memory is not None:
            where = (batch.pid, batch.image_id, step)
            self.image_memory.write(batch.image_id, anchors.images, *where)
            self.text_memory.write(batch.index, anchors.texts, *where)
        return images, texts

    def _encode_supports(self, batch: PairBatch) -> SupportFeatures:
        support = batch.support
        if support is None:
            raise ValueError(
                "expected batches with support sets for source='dataset', got none; give the "
                "data module supports, or set source='batch' or 'memory'"
            )
        # A rank without support runs the encoders along with the others, for their statistics.
        images, texts = support.images, (support.token_ids, support.valid, support.words)
        image_shares = text_shares = None
        if self.training:
            image_shares = shares_of_processes(support.image_keys, support.image_slots)
            text_shares = shares_of_processes(support.text_keys, support.text_slots)
        if image_shares is not None and not len(images):
            images = batch.images[:1]
        if text_shares is not None and not len(support.token_ids):
            words = None if batch.words is None else batch.words[:1]
            texts = (batch.token_ids[:1], batch.valid[:1], words)
        image_features = text_features = support.images.new_zeros(0, self.feature_dim)
        if len(images):
            with sample_weights(image_shares):
                image_features = self.dual.image_features(images)
        if len(texts[0]):
            with sample_weights(text_shares):
                text_features = self.dual.text_features(*texts)
        return SupportFeatures(
            *take_slots(image_features, support.image_slots),
            *take_slots(text_features, support.text_slots),
        )

    def _generator(self, like: Tensor, step: int, *, stream: int) -> Generator:
        draw = step + _FIRST_DRAW if self.training else step  # a frozen one's: its student's
        generator = torch.Generator(device=like.device)
        return generator.manual_seed((2 * self.seed + stream) * 998_244_353 + draw)


def _check_source(source: str, supports: SupportSettings) -> None:
    if source not in SOURCES:
        raise ValueError(f"source: expected one of {', '.join(SOURCES)}, got {source!r}")
    if supports.paired and source == "memory":
        raise ValueError(
            "supports.paired: expected false with supports from memory, got true; choose another "
            "source"
        )


def _alone(fusion: SupportFusion, features: Tensor) -> Tensor:
    empty = torch.zeros(len(features), 0, dtype=torch.bool, device=features.device)
    return fusion(features, features[:, None][:, :0], empty)
