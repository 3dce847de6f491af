"""Stop a training whose loss is not finite, and say which batch it was."""

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


class _Seen(NamedTuple):
    """A step whose terms are on their way from the device."""

    epoch: int
    step: int
    names: list[str]
    values: Tensor
    arrived: torch.cuda.Event | None
    pairs: Int[Tensor, " batch"]
    images: Int[Tensor, " batch"]


class FiniteLoss(Callback):
    """Check every step's terms, without making a GPU wait: one step later, or before a checkpoint.

    So no checkpoint is written of a model that has learned from such a step. All processes stop
    together.

    Args:
        output_dir: Where `nonfinite_step<number>.json` names the batch.
    """

    def __init__(self, output_dir: str) -> None:
        self.output_dir = Path(output_dir)
        self._seen: _Seen | None = None

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Check the step before, and send this one's terms off."""
        self._check(trainer)
        terms: dict[str, Tensor] = getattr(pl_module, "latest_terms", {})
        if not terms:
            return
        values = torch.stack([term.detach().float() for term in terms.values()])
        if trainer.world_size > 1:
            # A sum is not finite where one of its parts is not, on any process.
            torch.distributed.all_reduce(values)
        arrived = None
        if values.device.type == "cuda":
            host = torch.empty(values.shape, pin_memory=True)
            values = host.copy_(values, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        self._seen = _Seen(
            trainer.current_epoch,
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
        """Check before anything is written."""
        self._check(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check before embeddings of such a model are ranked."""
        self._check(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the last step."""
        self._check(trainer)

    def _check(self, trainer: L.Trainer) -> None:
        seen, self._seen = self._seen, None
        if seen is None:
            return
        if seen.arrived is not None:
            seen.arrived.synchronize()
        found = dict(zip(seen.names, seen.values.tolist(), strict=True))
        bad = [name for name, value in found.items() if not math.isfinite(value)]
        if bad:
            file = self.output_dir / f"nonfinite_step{seen.step}.json"
            _describe(trainer, seen, found, file)
            raise NonFiniteLossError(
                f"step {seen.step} (epoch {seen.epoch}): expected a finite loss, got "
                f"{', '.join(f'{name}={found[name]}' for name in bad)}; its batch is in {file}, "
                "and the last checkpoint is from before it"
            )


def _describe(trainer: L.Trainer, seen: _Seen, found: dict[str, float], file: Path) -> None:
    """Write what the step saw, on all processes together."""
    pairs, images = seen.pairs.tolist(), seen.images.tolist()
    if trainer.world_size > 1:
        shares: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(shares, (pairs, images))
        pairs, images = ([one for share in shares for one in share[k]] for k in (0, 1))
    if trainer.is_global_zero:
        records = trainer.datamodule.records("train")  # pyright: ignore[reportAttributeAccessIssue] -- set by Trainer.fit
        content = {
            "epoch": seen.epoch,
            "step": seen.step,
            "terms": {name: str(value) for name, value in found.items()},
            "pairs": pairs,
            "image_files": [str(records[image].image_path) for image in images],
        }
        write_json(file, content)
