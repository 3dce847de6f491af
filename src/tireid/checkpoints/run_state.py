"""The part of a checkpoint that Lightning leaves out and an exact resume needs.

Lightning restarts its loops by comparing counters of what was ready, started, processed and
completed, and the outcome depends on the hook that the checkpoint was written in. Here the
counters are set to one of three states that it continues exactly:

- between epochs: everything is completed;
- after a step within an epoch: its batches are completed, the epoch is started;
- before a validation: the same, and a validation is started of which nothing is done.

This is the one module that relies on the internals of Lightning's loops (2.6): the layout of their
state, and `_batches_that_stepped`, the number of steps that loggers count.
"""

import csv
import random
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.loggers import CSVLogger

from tireid.files import replacing

STATE = "tireid"  # its key in the checkpoint


def add_state(
    trainer: L.Trainer,
    pl_module: L.LightningModule,
    checkpoint: dict[str, Any],
    settings: str,
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
        self.from_name = Path(str(trainer.ckpt_path or "")).name
        self.step_is_done = self._state["logged_steps"] is not None
        trainer.should_stop = self._state["should_stop"]
        restore_rows(trainer, self._state["rows"])

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


def batches_done(fit: dict[str, Any]) -> int:
    """Return how many batches of the current epoch are done; 0 between epochs.

    Args:
        fit: State of Lightning's fit loop.
    """
    epochs = fit["epoch_progress"]["current"]
    within = epochs["started"] > epochs["processed"]
    return fit["epoch_loop.batch_progress"]["current"]["processed"] if within else 0


def set_to_last_step(fit: dict[str, Any], *, validation_due: bool) -> int | None:
    """Set the counters to the last completed step.

    Args:
        fit: State of Lightning's fit loop; changed in place.
        validation_due: Whether the validation after this step is still to be done.

    Returns:
        The number of steps that loggers have counted; None if Lightning restores it by itself.
    """
    epoch, batch = fit["epoch_progress"], fit["epoch_loop.batch_progress"]
    done = batches_done(fit)
    for counts in (epoch["total"], epoch["current"]):
        counts["completed"] = counts["processed"]
        counts["ready"] = counts["started"] = counts["processed"] + (1 if done else 0)
    for counts in (batch["total"], batch["current"]):
        counts["ready"] = counts["started"] = counts["completed"] = counts["processed"]
    validation = fit["epoch_loop.val_loop.batch_progress"]
    for counts in (validation["total"], validation["current"]):
        counts.update(dict.fromkeys(counts, 0))
    if validation_due:
        validation["total"].update(ready=1, started=1)
    fit["state_dict"]["combined_loader"] = [{"batches": done}]
    return None if validation_due else fit["epoch_loop.state_dict"]["_batches_that_stepped"]


def epochs_done(fit: dict[str, Any]) -> int:
    """Return how many epochs are done.

    Args:
        fit: State of Lightning's fit loop.
    """
    return fit["epoch_progress"]["current"]["processed"]


def set_logged_steps(trainer: L.Trainer, steps: int) -> None:
    """Set the number of steps that loggers have counted, after Lightning has restored its own."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = steps


def rng_states(device: torch.device) -> list[dict[str, Any]]:
    """Return the state of the global generators of each rank, as tensors and plain values.

    All ranks must call this.

    Args:
        device: The device of this rank.
    """
    kind, keys, *position = np.random.get_state(legacy=True)  # noqa: NPY002 -- the global one is meant
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *position),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if not (dist.is_available() and dist.is_initialized()):
        return [state]
    states: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(states, state)
    return states


def set_rng_states(states: list[dict[str, Any]], rank: int, device: torch.device) -> None:
    """Restore the generators of this rank.

    Args:
        states: What `rng_states` returned; a rank beyond them stays as it is seeded.
        rank: This rank.
        device: The device of this rank.
    """
    if rank >= len(states):
        return
    state = states[rank]
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *position = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *position))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def logged_rows(trainer: L.Trainer) -> str | None:
    """Return the text of `metrics.csv`; None without a CSV logger and on ranks other than 0."""
    logger = _csv_logger(trainer)
    if logger is None:
        return None
    file = _flushed(logger)
    return file.read_text(encoding="utf-8") if file.is_file() else None


def restore_rows(trainer: L.Trainer, text: str | None) -> None:
    """Write `metrics.csv` as it was; Lightning has removed the earlier run's file by now."""
    logger = _csv_logger(trainer)
    if logger is None or text is None:
        return
    with replacing(_flushed(logger)) as writer:
        writer.write(text.encode())
    logger.experiment.metrics_keys = next(csv.reader(text.splitlines()[:1]), [])


def _csv_logger(trainer: L.Trainer) -> CSVLogger | None:
    if not trainer.is_global_zero:
        return None
    return next((logger for logger in trainer.loggers if isinstance(logger, CSVLogger)), None)


def _flushed(logger: CSVLogger) -> Path:
    logger.save()
    return Path(logger.experiment.metrics_file_path)
