"""What all methods share: the ranking interface, evaluation steps, optimiser groups."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import lightning as L
import torch
from jaxtyping import Bool, Float, Int
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from tireid.structures import ImageBatch, TextBatch


class RetrievalModule(L.LightningModule):
    """Base of the methods: two encoders whose embeddings are ranked by their dot product.

    Args:
        image_encoder: Images to `Tokens`.
        text_encoder: Token ids and validity to `Tokens`.
        optimizer: Called with the parameter groups; None: the model is not trained.
        schedule: Called with the optimiser and `total_steps`; see `tireid.methods.schedules`.
        learning_rates: One rate for each name that `parameter_groups` gives.

    Attributes:
        training_only: What the names of weights begin with that embedding does not need, such as
            those of identity heads; they are left out of exports.
    """

    training_only: ClassVar[tuple[str, ...]] = ()
    image_encoder: nn.Module
    text_encoder: nn.Module

    def __init__(
        self,
        *,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        optimizer: Callable[..., Optimizer] | None = None,
        schedule: Callable[..., dict[str, Any]] | None = None,
        learning_rates: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.build_optimizer = optimizer
        self.build_schedule = schedule
        self.learning_rates = dict(learning_rates or {})

    def encode_image(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch dim"]:
        """Return unit-norm image embeddings."""
        raise NotImplementedError

    def encode_text(
        self, token_ids: Int[Tensor, "batch length"], valid: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch dim"]:
        """Return unit-norm text embeddings; their dot product with an image's is its score."""
        raise NotImplementedError

    def parameter_groups(self) -> dict[str, Iterable[nn.Parameter]]:
        """Return the parameters by the name of their learning rate."""
        raise NotImplementedError

    def embed(self, batch: TextBatch | ImageBatch) -> Float[Tensor, "batch dim"]:
        """Embed an evaluation batch of either modality, in float32."""
        if isinstance(batch, TextBatch):
            return self.encode_text(batch.token_ids, batch.valid).float()
        return self.encode_image(batch.images).float()

    def validation_step(
        self, batch: TextBatch | ImageBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> Tensor:
        """Embed; the retrieval callback collects."""
        return self.embed(batch)

    def test_step(
        self, batch: TextBatch | ImageBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> Tensor:
        """Embed; the retrieval callback collects."""
        return self.embed(batch)

    def total_loss(self, terms: Mapping[str, Tensor], batch_size: int) -> Tensor:
        """Log each weighted term and the sum, and return the sum."""
        total = torch.stack(list(terms.values())).sum()
        logged = {f"train/loss_{name}": term.detach() for name, term in terms.items()}
        logged["train/loss"] = total.detach()
        self.log_dict(logged, on_step=True, on_epoch=False, batch_size=batch_size)
        return total

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Give each named group its learning rate; frozen parameters are left out."""
        if self.build_optimizer is None or self.build_schedule is None:
            raise ValueError("expected an optimizer and a schedule to train with, got none")
        groups = []
        for name, parameters in self.parameter_groups().items():
            trainable = [p for p in parameters if p.requires_grad]
            if name not in self.learning_rates:
                raise ValueError(
                    f"learning_rates: expected a rate for {name!r}, "
                    f"got {sorted(self.learning_rates)}"
                )
            if trainable:
                groups.append({"params": trainable, "lr": self.learning_rates[name], "name": name})
        optimizer = self.build_optimizer(groups)
        total_steps = int(self.trainer.estimated_stepping_batches)
        schedule: Any = self.build_schedule(optimizer, total_steps=total_steps)
        return {"optimizer": optimizer, "lr_scheduler": schedule}
