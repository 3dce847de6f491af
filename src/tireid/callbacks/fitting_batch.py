"""Find the largest batch that fits the GPU, where one did not."""

import traceback
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import OutOfMemoryError

from tireid.structures import MaskedWords, PairBatch

_PARTS = 8  # of a batch, by which its size is told


class FittingBatch(Callback):
    """Add to an error about a step's memory how many of its pairs would have fitted.

    Three steps on parts of the batch tell it. Nothing is told on several processes, and of batches
    with support sets, whose images are not divided among the pairs.
    """

    def __init__(self) -> None:
        self._batch: PairBatch | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch of the step."""
        self._batch = batch if isinstance(batch, PairBatch) else None

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Let it go."""
        self._batch = None

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Try parts of the batch, if the error is one about memory."""
        batch, self._batch = self._batch, None
        if batch is None or batch.support is not None or trainer.world_size > 1:
            return
        if not isinstance(exception, OutOfMemoryError):
            return
        traceback.clear_frames(exception.__traceback__)  # they hold what the step had computed
        size = _largest(len(batch.pid), lambda n: _fits(trainer, pl_module, _first(batch, n)))
        if size:
            exception.add_note(f"batch_size={size} fits here")


def _largest(size: int, fits: Callable[[int], bool]) -> int:
    """Return the most eighths of a size that fit; 0: not even one does."""
    low, high = 0, _PARTS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(size * middle // _PARTS) else (low, middle)
    return size * low // _PARTS


def _first(batch: PairBatch, count: int) -> PairBatch:
    words = None if batch.words is None else batch.words[:count]
    masked = batch.masked
    if masked is not None:
        kept = masked.rows < count
        shown = (masked.rows[kept], masked.positions[kept], masked.words[kept])
        masked = MaskedWords(masked.token_ids[:count], *shown)
    fields: dict[str, Any] = dict(zip(PairBatch._fields[:7], batch[:7], strict=True))
    cut = {name: field[:count] for name, field in fields.items()}
    return PairBatch(**cut, words=words, masked=masked)


def _fits(trainer: L.Trainer, module: L.LightningModule, batch: PairBatch) -> bool:
    """Return whether a step on a batch fits, with what the optimiser allocates in its first."""
    try:
        method: Any = module.method
        with trainer.precision_plugin.forward_context():
            terms = method.training_terms(batch, trainer.global_step).terms
            loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        trained = [p for p in module.parameters() if p.requires_grad]
        is_first = not any(optimizer.state for optimizer in trainer.optimizers)
        _ = [torch.empty_like(p) for p in trained for _ in range(2)] if is_first else []
    except Exception:  # a part may also be too small for the method
        return False
    finally:
        module.zero_grad(set_to_none=True)
        if module.device.type == "cuda":
            torch.cuda.empty_cache()
    return True
