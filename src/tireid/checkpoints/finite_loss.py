"""Stop a training whose loss is not finite, and name the batch."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from jaxtyping import Int
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from tireid.files import write_json


class NonFiniteLossError(FloatingPointError):
    """A term of the loss is NaN or infinite."""


class _Step(NamedTuple):
    """A step whose terms are being copied from the device."""

    epoch: int
    number: int
    names: list[str]
    values: Tensor
    arrived: torch.cuda.Event | None
    pairs: Int[Tensor, " batch"]
    images: Int[Tensor, " batch"]


class FiniteLoss(Callback):
    """Check the terms of every step without making a GPU wait: one step later.

    They are also checked before a checkpoint is written, so none holds a model that has learned
    from such a step. All ranks stop together.

    Args:
        output_dir: Folder of `nonfinite_step<number>.json`, which names the batch.
    """

    def __init__(self, output_dir: str) -> None:
        self.output_dir = Path(output_dir)
        self._last: _Step | None = None

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Check the step before, and start copying the terms of this one."""
        self._check(trainer)
        terms: dict[str, Tensor] = getattr(pl_module, "latest_terms", {})
        if not terms:
            return
        values = torch.stack([term.detach().float() for term in terms.values()])
        if trainer.world_size > 1:
            # A sum is not finite if a rank's part of it is not.
            torch.distributed.all_reduce(values)
        arrived = None
        if values.device.type == "cuda":
            host = torch.empty(values.shape, pin_memory=True)
            values = host.copy_(values, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        self._last = _Step(
            trainer.current_epoch + 1,
            trainer.global_step,
            list(terms),
            values,
            arrived,
            batch.index,
            batch.image_id,
        )

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Check before a checkpoint is written."""
        self._check(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check before the model is validated."""
        self._check(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the last step."""
        self._check(trainer)

    def _check(self, trainer: L.Trainer) -> None:
        step, self._last = self._last, None
        if step is None:
            return
        if step.arrived is not None:
            step.arrived.synchronize()
        terms = dict(zip(step.names, step.values.tolist(), strict=True))
        bad = [f"{name}={value}" for name, value in terms.items() if not math.isfinite(value)]
        if bad:
            file = self.output_dir / f"nonfinite_step{step.number}.json"
            _describe(trainer, step, terms, file)
            raise NonFiniteLossError(
                f"step {step.number} (epoch {step.epoch}): expected a finite loss, got "
                f"{', '.join(bad)}; its batch is in {file}, and the last checkpoint is from before "
                "it"
            )


def _describe(trainer: L.Trainer, step: _Step, terms: dict[str, float], file: Path) -> None:
    """Write the terms and the whole batch of a step; all ranks must call this."""
    pairs, images = step.pairs.tolist(), step.images.tolist()
    if trainer.world_size > 1:
        shares: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(shares, (pairs, images))
        pairs, images = ([item for share in shares for item in share[k]] for k in (0, 1))
    if trainer.is_global_zero:
        records = trainer.datamodule.records("train")  # pyright: ignore[reportAttributeAccessIssue] -- set by Trainer.fit
        content = {
            "epoch": step.epoch,
            "step": step.number,
            "terms": {name: str(value) for name, value in terms.items()},
            "pairs": pairs,
            "image_files": [str(records[image].image_path) for image in images],
        }
        write_json(file, content)
