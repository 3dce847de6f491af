"""Collect embeddings, rank, and log the retrieval metrics of a split."""

from typing import Any, NamedTuple

import lightning as L
from jaxtyping import Float, Int
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from tireid.metrics.values import mean_percent
from tireid.retrieval.collection import RetrievalMetrics
from tireid.retrieval.sharing import shared_embedding_values


class SplitEmbeddings(NamedTuple):
    """All embeddings of a split, in the order of the split, each item once.

    Attributes:
        texts: Unit-norm embeddings of the captions.
        images: Unit-norm embeddings of the gallery.
        text_pids: Identity of each caption.
        image_pids: Identity of each image.
        image_index: Position in the gallery of the image each caption describes; -1 where it
            was not embedded.
    """

    texts: Float[Tensor, "query dim"]
    images: Float[Tensor, "gallery dim"]
    text_pids: Int[Tensor, " query"]
    image_pids: Int[Tensor, " gallery"]
    image_index: Int[Tensor, " query"]


class RetrievalEvaluation(Callback):
    """Log `val/...` and `test/...` metrics of both directions, in percent.

    Each caption and each image counts once, whatever a distributed sampler repeated. The values
    are logged on every process, so that all of them stop and save alike.

    Args:
        block_size: Queries ranked at once; bounds the memory.
        validation_split: Split that validation embeds: `val`, or `test` if that selects.

    Attributes:
        embeddings: Those of the last test; None before.
    """

    embeddings: SplitEmbeddings | None

    def __init__(self, block_size: int = 256, validation_split: str = "val") -> None:
        self.block_size = block_size
        self.validation_split = validation_split
        self.embeddings = None
        self.metric = RetrievalMetrics(self._evaluate)

    def _evaluate(
        self,
        texts: Tensor,
        images: Tensor,
        text_pids: Tensor,
        image_pids: Tensor,
        *,
        paired: Tensor,
    ) -> dict[str, float]:
        split = SplitEmbeddings(texts, images, text_pids, image_pids, paired)
        if texts.device.type == "mps":  # exact similarities need float64, which MPS has not
            split = SplitEmbeddings(*(tensor.cpu() for tensor in split))
        self.embeddings = split
        texts, images, text_pids, image_pids, paired = split
        size = self.block_size
        forward = mean_percent(
            shared_embedding_values(
                texts, images, text_pids, image_pids, paired=paired, block_size=size
            )
        )
        backward = mean_percent(
            shared_embedding_values(images, texts, image_pids, text_pids, block_size=size)
        )
        return forward | {f"i2t_{name}": value for name, value in backward.items()}

    def _finish(self, pl_module: L.LightningModule, split: str) -> None:
        values = self.metric.compute()
        self.metric.reset()
        # All processes have the same values; a mean of three of them would round.
        pl_module.log_dict(
            {f"{split}/{name}": value for name, value in values.items()},
            sync_dist=True,
            reduce_fx="max",
        )

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget what an interrupted evaluation left."""
        self.metric.to(pl_module.device).reset()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget what an interrupted evaluation left."""
        self.metric.to(pl_module.device).reset()

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the embeddings of a batch."""
        self.metric.update(outputs, batch)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the embeddings of a batch."""
        self.metric.update(outputs, batch)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Rank and log the validation split."""
        self._finish(pl_module, self.validation_split)
        self.embeddings = None

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Rank and log the test split."""
        self._finish(pl_module, "test")


def embeddings_of(trainer: L.Trainer) -> SplitEmbeddings | None:
    """Return the embeddings of a trainer's last test; None: nothing was tested, or kept."""
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue] -- set by Trainer's connector
    found = (one.embeddings for one in callbacks if isinstance(one, RetrievalEvaluation))
    return next(found, None)
