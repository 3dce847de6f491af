"""Log the learning rate of each group of parameters, beside the losses of its step."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor


class LearningRates(Callback):
    """Log `train/lr_<group>`, the rate of the step, at least once per epoch.

    Lightning's `LearningRateMonitor` names rates by the optimiser's class, in rows of their own,
    and logs none in epochs that are shorter than the log interval.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Shorten the log interval to an epoch, so that each epoch's last step is logged."""
        steps: Any = trainer.num_training_batches  # a float if the length is unknown
        trainer.log_every_n_steps = int(min(trainer.log_every_n_steps, steps))  # pyright: ignore[reportAttributeAccessIssue] -- set by Lightning's connector

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Log the rates with the step's losses."""
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        pl_module.log_dict(
            {f"train/lr_{group['name']}": _on(pl_module.device, group["lr"]) for group in groups},
            on_step=True,
            on_epoch=False,
        )


def _on(device: torch.device, rate: float) -> Tensor:
    # Lightning copies a plain number to the GPU, and so waits for all work there in every step.
    return torch.full((), float(rate), device=device)
