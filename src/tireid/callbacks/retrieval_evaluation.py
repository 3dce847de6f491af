"""Collect embeddings, rank, and log the retrieval metrics of a split."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from tireid.data.datamodule import TireidDataModule
from tireid.data.mixed import pids_by_set
from tireid.retrieval.by_set import values_by_set
from tireid.retrieval.collection import RetrievalMetrics, SplitEmbeddings
from tireid.retrieval.similarity import NoDirectionError, diverged


class RetrievalEvaluation(Callback):
    """Log `val/...` and `test/...` metrics of both directions, in percent.

    Of a mixed data set also `val/SET/...`, where only captions and images of that set are ranked.

    Each caption and each image counts once, whatever a distributed sampler repeated. The values
    are logged on every process, so that all of them stop and save alike.

    Args:
        block_size: Queries ranked at once; bounds the memory.
        validation_split: Split that validation embeds: `val`, or `test` if that selects.
        weights: What made the weights that are evaluated, for messages; None: the training.

    Attributes:
        embeddings: Those of the last test, or with `weights` validation; None before.
    """

    embeddings: SplitEmbeddings | None

    def __init__(
        self, block_size: int = 256, validation_split: str = "val", weights: str | None = None
    ) -> None:
        self.weights = weights
        self.validation_split = validation_split
        self.embeddings = None
        self.metric = RetrievalMetrics(block_size)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Drop what an interrupted evaluation collected."""
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
        """Collect the embeddings of a batch."""
        self.metric.update(outputs, batch)

    on_test_start = on_validation_start
    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Rank and log the validation split."""
        weights = f"epoch {trainer.current_epoch + 1}"
        embeddings = self._log(trainer, pl_module, self.validation_split, weights)
        if self.weights is not None:
            self.embeddings = embeddings

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Rank and log the test split, and keep its embeddings."""
        self.embeddings = self._log(trainer, pl_module, "test", trainer.ckpt_path)

    def _log(
        self, trainer: L.Trainer, pl_module: L.LightningModule, split: str, weights: object
    ) -> SplitEmbeddings | None:
        try:
            values = self.metric.compute()
        except NoDirectionError as error:  # on all processes alike
            raise NoDirectionError(diverged(self.weights or weights, str(error))) from error
        embeddings, self.metric.split = self.metric.split, None
        datamodule = getattr(trainer, "datamodule", None)
        if embeddings is not None and isinstance(datamodule, TireidDataModule):
            sets = pids_by_set(datamodule.records(split))
            values |= values_by_set(embeddings, sets, self.metric.block_size)
        self.metric.reset()
        # All processes have the same values; a mean of three of them would round.
        pl_module.log_dict(
            {f"{split}/{name}": value for name, value in values.items()},
            sync_dist=True,
            reduce_fx="max",
        )
        return embeddings


def embeddings_of(trainer: L.Trainer) -> SplitEmbeddings | None:
    """Return the embeddings that a trainer evaluated last; None if it did not, or only trained."""
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue] -- set by Trainer's connector
    evaluations = (c for c in callbacks if isinstance(c, RetrievalEvaluation))
    return next((evaluation.embeddings for evaluation in evaluations), None)
