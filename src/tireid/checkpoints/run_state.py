"""Our part of a checkpoint: what Lightning leaves out and an exact continuation needs."""

from pathlib import Path
from typing import Any

import lightning as L

from tireid.checkpoints.csv_rows import logged_rows, restore_rows
from tireid.checkpoints.loop_progress import batches_done, settle
from tireid.checkpoints.rng_state import generator_states, set_generator_states

STATE = "tireid"  # its name there


def add_state(
    trainer: L.Trainer,
    pl_module: L.LightningModule,
    checkpoint: dict[str, Any],
    settings: str,
    *,
    between_steps: bool,
    validation_due: bool,
) -> None:
    """Add generators, the log's rows, a wish to stop early, and where in its epoch the run is.

    Args:
        trainer: Of the run; all its processes must call this.
        pl_module: What is trained.
        checkpoint: As Lightning made it; changed in place.
        settings: What the run depends on, in one word.
        between_steps: Whether it is written where all that belongs to the last step is done, but
            for what `validation_due` says; its counters are set to say so.
        validation_due: Whether the last step's validation is still to be done.
    """
    own: dict[str, Any] = {
        "settings": settings,
        "method": type(pl_module).__name__,
        "generators": generator_states(trainer.strategy.root_device),
        "should_stop": trainer.should_stop,
        "rows": logged_rows(trainer),
        "logged_steps": None,
    }
    fit = checkpoint["loops"]["fit_loop"]
    own["batches"] = batches_done(fit)
    if between_steps:
        own["logged_steps"] = settle(fit, validation_due=validation_due)
        # As in all checkpoints: the epoch of the last step.
        done = fit["epoch_progress"]["current"]["processed"]
        checkpoint["epoch"] = done if own["batches"] else done - 1
    checkpoint[STATE] = own


class Resumption:
    """What is restored of a checkpoint, each thing when Lightning no longer overwrites it.

    Args:
        trainer: Of the run that continues.
        checkpoint: What it continues from; the log is restored at once.

    Attributes:
        from_name: Name of the checkpoint's file.
        step_is_done: Whether nothing of the last step is left to do.
    """

    def __init__(self, trainer: L.Trainer, checkpoint: dict[str, Any]) -> None:
        self._state: dict[str, Any] = checkpoint[STATE]
        self.from_name = Path(str(trainer.ckpt_path or "")).name
        self.step_is_done = self._state["logged_steps"] is not None
        trainer.should_stop = self._state["should_stop"]
        restore_rows(trainer, self._state["rows"])

    def begin(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell model and data the place in the epoch, when training starts."""
        # What Lightning does at the beginning of an epoch only, or too early to be of use: it
        # asks for the loader before it knows that it restarts.
        pl_module.on_train_epoch_start()
        trainer.train_dataloader.load_state_dict({"batches": self._state["batches"]})  # pyright: ignore[reportOptionalMemberAccess] -- training has one

    def finish(self, trainer: L.Trainer) -> None:
        """Restore, at the first step, what the way there has used."""
        if self.step_is_done:
            trainer.fit_loop.epoch_loop._batches_that_stepped = self._state["logged_steps"]
        device = trainer.strategy.root_device
        set_generator_states(self._state["generators"], trainer.global_rank, device)
