"""Base of the methods: the ranking interface, evaluation steps, optimiser groups."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import lightning as L
import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from tireid.encoders.blocks import ENCODERS, named, no_blocks, parts_by_depth
from tireid.losses.gather import mean_over_processes
from tireid.losses.precision import full_precision
from tireid.structures import (
    Features,
    Ids,
    ImageBatch,
    Images,
    PairBatch,
    Scalar,
    TextBatch,
    TokenIds,
    TokenMaps,
    Tokens,
    Valid,
    Words,
)


class TrainingTerms(NamedTuple):
    """Loss terms and features of a training batch.

    Attributes:
        terms: Weighted terms of the loss, by name.
        images: Image features that are ranked, not normalised.
        texts: Text features that are ranked, not normalised.
    """

    terms: dict[str, Scalar]
    images: Features
    texts: Features


class RetrievalModule(L.LightningModule):
    """Base of the methods: two encoders whose embeddings are ranked by their dot product.

    Args:
        image_encoder: Images to `Tokens`; None in a method around another, which has them.
        text_encoder: Token ids and validity to `Tokens`; None where the image encoder is.
        optimizer: Called with the parameter groups; None: the model is not trained.
        schedule: Called with the optimiser and `total_steps`; see `tireid.methods.schedules`.
        learning_rates: One rate for each name that `parameter_groups` gives. With `NAME_bias`
            besides, the biases of that group have this rate and no weight decay.

    Attributes:
        seed_offset: Added to the run's seed for the global RNG and the data, so that a teacher and
            its student of one seed draw different weights, batches, augmentations and supports.
        reads_pooled: Whether the encoders' pooled features are read, besides the local ones.
        takes_supports: Whether training batches must carry support sets.
        training_only: Prefixes of the names of weights that embedding does not need, such as
            those of identity heads; they are left out of exports.
        losses: Names of the constructor's arguments that are losses; they own no weights, and those
            of other packages are left out where the model is only used.
        feature_dim: Width of the features that are ranked.
        feature_parts: Number of equal parts that they are the concatenation of.
        latest_terms: Weighted terms of the latest training step, by name, without gradient.
        flip_images: Whether an evaluation embeds an image by the mean of its embedding and that of
            its mirror image.
        layer_decay: Factor by which the rates of transformer encoders fall from block to block
            towards the input, see `tireid.encoders.blocks`; 1: they do not.
    """

    latest_terms: dict[str, Tensor]
    flip_images: bool = False
    layer_decay: float = 1.0
    seed_offset: int = 0
    reads_pooled: bool = True
    takes_supports: bool = False
    training_only: tuple[str, ...] = ()
    losses: tuple[str, ...] = ("alignment",)
    feature_dim: int
    feature_parts: int = 1
    image_encoder: nn.Module
    text_encoder: nn.Module

    def __init__(
        self,
        *,
        image_encoder: nn.Module | None = None,
        text_encoder: nn.Module | None = None,
        optimizer: Callable[..., Optimizer] | None = None,
        schedule: Callable[..., dict[str, Any]] | None = None,
        learning_rates: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if image_encoder is not None and text_encoder is not None:
            self.image_encoder = image_encoder
            self.text_encoder = text_encoder
            if not self.reads_pooled and hasattr(image_encoder, "freeze_pooling"):
                image_encoder.freeze_pooling()  # pyright: ignore[reportCallIssue] -- nn.Module attribute
        self.build_optimizer = optimizer
        self.build_schedule = schedule
        self.learning_rates = dict(learning_rates or {})
        self.latest_terms = {}

    def image_features(self, images: Images) -> Features:
        """Return the image features that are ranked, not normalised."""
        raise NotImplementedError

    def text_features(self, token_ids: TokenIds, valid: Valid, words: Words = None) -> Features:
        """Return the text features that are ranked, not normalised."""
        raise NotImplementedError

    def training_terms(self, batch: PairBatch, step: int) -> TrainingTerms:
        """Return the terms of the loss and the features they come from.

        Nothing is logged and no trainer is asked, so that a method can serve inside another.

        Args:
            batch: Training pairs.
            step: Number of the optimiser's step; keys what is drawn at random in it.
        """
        raise NotImplementedError

    def parameter_groups(self) -> dict[str, Iterable[nn.Parameter]]:
        """Return the parameters by the name of their learning rate."""
        raise NotImplementedError

    def encode_image(self, images: Images) -> Features:
        """Return unit-norm image embeddings, in float32 or better."""
        return _unit_norm(self.image_features(images))

    def encode_text(self, token_ids: TokenIds, valid: Valid, words: Words = None) -> Features:
        """Return unit-norm text embeddings; their dot product with an image's is its score."""
        return _unit_norm(self.text_features(token_ids, valid, words))

    def text_tokens(self, token_ids: TokenIds, valid: Valid, words: Words = None) -> Tokens:
        """Run the text encoder.

        Args:
            token_ids: Padded captions.
            valid: True = real token.
            words: Token features of the text encoder's frozen word encoder, if they are cached;
                only a text encoder that has one takes them.
        """
        if words is None:
            return self.text_encoder(token_ids, valid)
        return self.text_encoder(token_ids, valid, words)

    def explain_images(self, images: Images) -> TokenMaps | None:
        """Return how the image tokens are weighed, computed again; None: no weights to show."""
        return None

    def explain_texts(
        self, token_ids: TokenIds, valid: Valid, words: Words = None
    ) -> TokenMaps | None:
        """Return how the text tokens are weighed, computed again; None: no weights to show."""
        return None

    def image_contributions(
        self, images: Images, texts: Features
    ) -> Float[Tensor, "batch length"] | None:
        """Return what each image token adds to the score of its image with a text.

        Args:
            images: Normalised RGB.
            texts: Unit-norm embedding of the text that each image is scored with.

        Returns:
            Signed parts of the score, which miss only what no token brings, such as a bias; None:
            the score is no sum over tokens.
        """
        return None

    def text_contributions(
        self, token_ids: TokenIds, valid: Valid, images: Features
    ) -> Float[Tensor, "batch length"] | None:
        """Return what each text token adds to the score with an image, or None, as for images."""
        return None

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """Sum the terms of the loss."""
        return self.total_loss(self.training_terms(batch, self.global_step).terms, len(batch.pid))

    def on_fit_start(self) -> None:
        """Let dropout differ between ranks, which were all seeded alike."""
        if self.global_rank > 0:
            torch.manual_seed(torch.initial_seed() + 998_244_353 * self.global_rank)

    def on_train_epoch_start(self) -> None:
        """Pass the epoch on to the modules whose behaviour depends on it."""
        for module in self.modules():
            if module is not self and hasattr(module, "set_epoch"):
                module.set_epoch(self.current_epoch)  # pyright: ignore[reportCallIssue] -- nn.Module attribute

    def embed(self, batch: TextBatch | ImageBatch) -> Features:
        """Embed an evaluation batch of either modality, in float32."""
        if isinstance(batch, TextBatch):
            return self.encode_text(batch.token_ids, batch.valid, batch.words).float()
        images = self.encode_image(batch.images)
        if self.flip_images:
            images = _unit_norm(images + self.encode_image(batch.images.flip(-1)))
        return images.float()

    def validation_step(
        self, batch: TextBatch | ImageBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> Tensor:
        """Embed; the retrieval callback collects."""
        return self.embed(batch)

    test_step = validation_step

    def total_loss(self, terms: Mapping[str, Tensor], batch_size: int) -> Tensor:
        """Log each weighted term and the sum, averaged over ranks, and return this rank's sum."""
        values = torch.stack(list(terms.values()))
        total = values.sum()
        shown = mean_over_processes(values)
        self.latest_terms = dict(zip(terms, shown, strict=True))
        logged = {f"train/loss_{name}": term for name, term in self.latest_terms.items()}
        logged["train/loss"] = shown.sum()
        self.log_dict(logged, on_step=True, on_epoch=False, batch_size=batch_size)
        return total

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Give each named group its learning rate; frozen parameters are left out."""
        if self.build_optimizer is None or self.build_schedule is None:
            raise ValueError("expected an optimizer and a schedule to train with, got none")
        biases = {id(p) for name, p in self.named_parameters() if "bias" in name.rpartition(".")[2]}
        groups: list[dict[str, Any]] = []
        for name, parameters in self.parameter_groups().items():
            rate = self._rate(name)
            for part, (factor, trainable) in self._parts(name, parameters).items():
                apart: list[nn.Parameter] = []
                if f"{name}_bias" in self.learning_rates:
                    apart = [p for p in trainable if id(p) in biases]
                    trainable = [p for p in trainable if id(p) not in biases]
                if trainable:
                    groups.append({"params": trainable, "lr": rate * factor, "name": name + part})
                if apart:
                    rate_apart = self._rate(f"{name}_bias") * factor
                    own = {"lr": rate_apart, "name": f"{name}_bias{part}"}
                    groups.append({"params": apart, "weight_decay": 0.0} | own)
        if self.layer_decay != 1 and not any("_block" in group["name"] for group in groups):
            raise ValueError(no_blocks("layer_decay", self.layer_decay))
        optimizer = self.build_optimizer(groups)
        for module in self.modules():  # a head may train some rows of its weights at a time
            if hasattr(module, "follow"):
                module.follow(optimizer)  # pyright: ignore[reportCallIssue] -- nn.Module attribute
        total_steps = int(self.trainer.estimated_stepping_batches)
        schedule: Any = self.build_schedule(optimizer, total_steps=total_steps)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _parts(
        self, name: str, parameters: Iterable[nn.Parameter]
    ) -> dict[str, tuple[float, list[nn.Parameter]]]:
        """Return the trained parameters of a group by part, with the factor of its rate."""
        if name not in ENCODERS or self.layer_decay == 1:
            return {"": (1.0, [p for p in parameters if p.requires_grad])}
        parts = parts_by_depth(named(self, parameters), self.layer_decay)
        return {f"_{part}" if part else "": value for part, value in parts.items()}

    def _rate(self, name: str) -> float:
        if name not in self.learning_rates:
            raise ValueError(
                f"learning_rates: expected a rate for {name!r}, got {sorted(self.learning_rates)}"
            )
        rate = self.learning_rates[name]
        if type(rate) not in (int, float) or not 0 <= rate < math.inf:
            raise ValueError(f"learning_rates.{name}: expected a number >= 0, got {rate!r}")
        return rate


def embedding_weights(model: RetrievalModule, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a model without those that only training needs, by name."""
    return {name: v for name, v in state.items() if not name.startswith(model.training_only)}


def _unit_norm(features: Tensor) -> Tensor:
    # In half precision the norms would be off by some 1e-3, and the ranking with them.
    with full_precision(features) as (wide,):
        return F.normalize(wide, dim=-1)


def align(
    alignment: nn.Module,
    rows: Float[Tensor, "batch ..."],
    columns: Float[Tensor, "batch ..."],
    pids: Ids,
    *,
    draw: int,
    classes: tuple[Ids, Float[Tensor, "ids dim"]] | None = None,
) -> Scalar:
    """Apply an alignment loss to features whose parts, if any, are concatenated.

    Args:
        alignment: A loss over `(rows, columns, pids)`.
        rows: Not normalised.
        columns: Not normalised; row i of both is one pair.
        pids: Identity of each pair.
        draw: Number of the draw, for a loss that draws its negatives and says so by `draws`.
        classes: Class of each pair and the weights of the classes, for a loss that also classifies
            and says so by `classifies`.

    Raises:
        ValueError: If a loss that classifies gets no classes.
    """
    rows, columns = rows.flatten(1), columns.flatten(1)
    extra: dict[str, Any] = {}
    if getattr(alignment, "draws", False):
        extra["draw"] = draw
    if classifies(alignment):
        if classes is None:
            raise ValueError(
                f"alignment: {type(alignment).__name__} classifies, and this method has no classes"
            )
        extra["labels"], extra["weights"] = classes
    return alignment(rows, columns, pids, **extra)


def classifies(alignment: nn.Module) -> bool:
    """Return whether an alignment loss takes the classes of a batch."""
    return bool(getattr(alignment, "classifies", False))


def freeze_unused(classifier: nn.Linear, identity_weight: float, alignment: nn.Module) -> None:
    """Freeze the weights of an identity head that no term of the loss gives a gradient."""
    classifier.requires_grad_(bool(identity_weight))
    if classifies(alignment):
        classifier.weight.requires_grad_(True)


def token_contributions(
    tokens: Tokens, project: Callable[[Tokens], Tensor], projection: nn.Module, others: Features
) -> Float[Tensor, "batch length"] | None:
    """Return the terms of `others`' dot product with the unit-norm features, by local token.

    A mean and a maximum are sums of what they take from each token, which is their gradient there
    times the token.

    Args:
        tokens: Output of an encoder, computed with gradients.
        project: From it to the features that are ranked, not normalised.
        projection: The linear map in it, whose bias no token brings.
        others: Row i is what sample i is scored with.

    Returns:
        None where the features do not come from the local tokens, come from a single one of each
        sample, such as the end token, or are no such sum.
    """
    features = project(tokens)
    scores = (features * others).sum(dim=1)
    if not tokens.local.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(scores.sum(), tokens.local, allow_unused=True)
    if gradient is None or gradient.any(dim=2).sum(dim=1).max() < 2:
        return None
    terms = (gradient * tokens.local).sum(dim=2)
    bias = getattr(projection, "bias", None)
    constant = 0.0 if bias is None else others @ bias
    if not torch.allclose(terms.sum(dim=1) + constant, scores, rtol=1e-3, atol=1e-4):
        return None
    return (terms / features.norm(dim=1, keepdim=True)).detach()
