"""The part of a checkpoint that Lightning leaves out and an exact resume needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L

from tireid.checkpoints.csv_rows import logged_rows, restore_rows
from tireid.checkpoints.loop_progress import (
    batches_done,
    epochs_done,
    set_logged_steps,
    set_to_last_step,
)
from tireid.checkpoints.rng_state import check_rng_states, rng_states, set_rng_states
from tireid.runs.training_state import check_fits

STATE = "tireid"  # its key in the checkpoint


def add_state(
    trainer: L.Trainer,
    pl_module: L.LightningModule,
    checkpoint: dict[str, Any],
    settings: str,
    data: Mapping[str, str],
    *,
    between_steps: bool,
    validation_due: bool,
) -> None:
    """Add RNG states, the log's rows, early stopping and the place in the epoch.

    All ranks must call this.

    Args:
        trainer: The trainer of the run.
        pl_module: The model that is trained.
        checkpoint: The content that Lightning writes; changed in place.
        settings: Hash of the run's config.
        data: Hash of each split's records.
        between_steps: Whether the last step is done with all that belongs to it, except for what
            `validation_due` says. If so, the loop counters are set accordingly.
        validation_due: Whether the validation after the last step is still to be done.
    """
    fit = checkpoint["loops"]["fit_loop"]
    batches = batches_done(fit)
    logged_steps = None
    if between_steps:
        logged_steps = set_to_last_step(fit, validation_due=validation_due)
        # As in all checkpoints: the epoch of the last step.
        checkpoint["epoch"] = epochs_done(fit) - (0 if batches else 1)
    checkpoint[STATE] = {
        "settings": settings,
        "data": dict(data),
        "method": type(pl_module).__name__,
        "generators": rng_states(trainer.strategy.root_device),
        "should_stop": trainer.should_stop,
        "rows": logged_rows(trainer),
        "logged_steps": logged_steps,
        "batches": batches,
    }


class Resumption:
    """Restore what `add_state` saved, each part when Lightning no longer overwrites it.

    The log and early stopping are restored at once.

    Args:
        trainer: The trainer of the resumed run.
        checkpoint: The content that the run resumes from.

    Attributes:
        from_name: Name of the checkpoint's file.
        step_is_done: Whether nothing of the last step is left to do.
    """

    def __init__(self, trainer: L.Trainer, checkpoint: dict[str, Any]) -> None:
        self._state: dict[str, Any] = checkpoint[STATE]
        self.step_is_done = self._state["logged_steps"] is not None
        self._checkpoint: dict[str, Any] = checkpoint
        self._file = Path(str(trainer.ckpt_path or ""))
        self.from_name = self._file.name
        check_rng_states(self._state["generators"], self._file)
        trainer.should_stop = self._state["should_stop"]
        restore_rows(trainer, self._state["rows"])

    def check_fits(self, trainer: L.Trainer) -> None:
        """Check that what Lightning restores next fits the training, and let go of it."""
        schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
        check_fits(self._checkpoint, trainer.optimizers, schedules, self._file)
        self._checkpoint = {}

    def restore_place(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell the model its epoch and the loader its batch, when training starts."""
        # Lightning does the one only where an epoch begins, and the other before it knows that it
        # restarts.
        pl_module.on_train_epoch_start()
        trainer.train_dataloader.load_state_dict({"batches": self._state["batches"]})  # pyright: ignore[reportOptionalMemberAccess] -- training has one

    def restore_counters(self, trainer: L.Trainer) -> None:
        """Restore, at the first step, the logged steps and the RNG state that setup has used."""
        if self.step_is_done:
            set_logged_steps(trainer, self._state["logged_steps"])
        device = trainer.strategy.root_device
        set_rng_states(self._state["generators"], trainer.global_rank, device)
