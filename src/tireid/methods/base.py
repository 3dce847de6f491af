"""Base of the methods: the ranking interface, the terms of the loss, what a training tells."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

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


class TrainingPass(ABC):
    """A pass that reaches every training pair, beside those that train."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of training pairs."""

    @abstractmethod
    def compute(
        self, function: Callable[[PairBatch], Tensor]
    ) -> Iterator[tuple[PairBatch, Tensor]]:
        """Yield this process's batches with a function of each, in the training's arithmetic.

        A shortened epoch (debug=fast) does not reach all pairs.
        """


class RetrievalModule(nn.Module):
    """Base of the methods: two encoders whose embeddings are ranked by their dot product.

    A method knows no trainer: `tireid.training.lightning_module` takes its steps and tells it what
    it has to know of the training.

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
        flip_images: Whether an evaluation embeds an image by the mean of its embedding and that of
            its mirror image.
        layer_decay: Factor by which the rates of transformer encoders fall from block to block
            towards the input, see `tireid.encoders.blocks`; 1: they do not.
    """

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

    def embed(self, batch: TextBatch | ImageBatch) -> Features:
        """Embed an evaluation batch of either modality, in float32."""
        if isinstance(batch, TextBatch):
            return self.encode_text(batch.token_ids, batch.valid, batch.words).float()
        images = self.encode_image(batch.images)
        if self.flip_images:
            images = _unit_norm(images + self.encode_image(batch.images.flip(-1)))
        return images.float()

    def measurements(self, terms: TrainingTerms, step: int) -> dict[str, Tensor]:
        """Return what is logged of a step besides its loss, by name; by default nothing.

        Args:
            terms: Those of the step, with gradients.
            step: As in `training_terms`.
        """
        return {}

    def begin_training(self, steps: int | float, epochs: int) -> None:
        """Take in how long the training is; by default nothing depends on it.

        Args:
            steps: Steps of the optimiser, all in all.
            epochs: Number of epochs.
        """

    def begin_epoch(self, epoch: int, training_pass: Callable[..., TrainingPass]) -> None:
        """Do what an epoch begins with; by default nothing.

        Also called where a resumed run goes on within an epoch.

        Args:
            epoch: Number of the epoch, from 0.
            training_pass: Makes a pass of a number that stands for an epoch in what is drawn, and
                `augmented`, whether images and captions are augmented as for training.
        """

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add to a checkpoint what a resumed training needs besides the weights."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what `on_save_checkpoint` has added."""


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
