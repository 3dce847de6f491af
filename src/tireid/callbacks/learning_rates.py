"""The learning rate of each group of parameters, in the log beside the losses."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback


class LearningRates(Callback):
    """Log `train/lr_<group>`: the rate that the step is done with, once an epoch at the least."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let epochs of fewer steps than lie between two logged ones be logged too."""
        settings: Any = trainer  # Lightning's connector sets what is read and written here
        settings.log_every_n_steps = int(
            min(settings.log_every_n_steps, trainer.num_training_batches)
        )

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Log the rates, with the step's losses."""
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        pl_module.log_dict(
            {f"train/lr_{group['name']}": float(group["lr"]) for group in groups},
            on_step=True,
            on_epoch=False,
        )
