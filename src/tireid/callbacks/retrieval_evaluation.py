"""Collect embeddings, rank, and log the retrieval metrics of a split."""

from typing import Any, Literal, NamedTuple

import lightning as L
import torch
from jaxtyping import Float, Int
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from tireid.retrieval import evaluate_embeddings
from tireid.structures import ImageBatch, TextBatch

Split = Literal["val", "test"]


class SplitEmbeddings(NamedTuple):
    """All embeddings of a split, in the order of the split, each item once, on the CPU.

    Attributes:
        texts: Unit-norm embeddings of the captions.
        images: Unit-norm embeddings of the gallery.
        text_pids: Identity of each caption.
        image_pids: Identity of each image.
        image_index: Position in the gallery of the image each caption describes.
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
    """

    def __init__(self, block_size: int = 1024) -> None:
        self.block_size = block_size
        self.embeddings: SplitEmbeddings | None = None
        self._texts: list[tuple[Tensor, ...]] = []
        self._images: list[tuple[Tensor, ...]] = []

    def _collect(self, embeddings: Tensor, batch: TextBatch | ImageBatch) -> None:
        if isinstance(batch, TextBatch):
            self._texts.append(
                tuple(x.cpu() for x in (batch.index, embeddings, batch.pid, batch.image_index))
            )
        else:
            self._images.append(tuple(x.cpu() for x in (batch.index, embeddings, batch.pid)))

    def _finish(self, trainer: L.Trainer, pl_module: L.LightningModule, split: Split) -> None:
        texts, text_pids, image_index = _in_order(trainer, self._texts)
        images, image_pids = _in_order(trainer, self._images)
        self._texts, self._images = [], []
        self.embeddings = SplitEmbeddings(texts, images, text_pids, image_pids, image_index)
        forward = evaluate_embeddings(
            texts,
            images,
            text_pids,
            image_pids,
            paired=image_index,
            block_size=self.block_size,
        )
        backward = evaluate_embeddings(
            images, texts, image_pids, text_pids, block_size=self.block_size
        )
        values = {f"{split}/{name}": value for name, value in forward.items()}
        values |= {f"{split}/i2t_{name}": value for name, value in backward.items()}
        pl_module.log_dict(values, sync_dist=True, add_dataloader_idx=False)

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
        self._collect(outputs, batch)

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
        self._collect(outputs, batch)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Rank and log the validation split."""
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Rank and log the test split."""
        self._finish(trainer, pl_module, "test")


def _in_order(trainer: L.Trainer, collected: list[tuple[Tensor, ...]]) -> list[Tensor]:
    """Concatenate over batches and processes, sort by index, keep each index once."""
    index, *columns = (torch.cat(parts) for parts in zip(*collected, strict=True))
    if trainer.world_size > 1:
        gathered: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(gathered, (index, *columns))
        index, *columns = (torch.cat(parts) for parts in zip(*gathered, strict=True))
    order = torch.argsort(index, stable=True)
    ordered = index[order]
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    keep = order[first]
    return [column[keep] for column in columns]
