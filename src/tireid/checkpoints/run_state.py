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

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.distributed as dist

from tireid.runs.training_state import check_fits
from tireid.tracking.csv_log import CsvLog

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
        pl_module: Holds the method that is trained.
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
        "method": type(pl_module.method).__name__,
        "generators": rng_states(trainer.strategy.root_device),
        "should_stop": trainer.should_stop,
        "rows": logged_rows(trainer),
        "logged_steps": logged_steps,
        "batches": batches,
        "optimized": [len(optimizer.state) for optimizer in trainer.optimizers],
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
        optimized = self._state.get("optimized")
        check_fits(self._checkpoint, trainer.optimizers, schedules, self._file, optimized)
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
    of_python, of_numpy = _decoded(state)
    random.setstate(of_python)
    np.random.set_state(of_numpy)  # noqa: NPY002 -- as above
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def check_rng_states(states: list[dict[str, Any]], file: Path) -> None:
    """Check that states can be restored, by generators that nobody uses.

    Args:
        states: Of each rank, from a checkpoint.
        file: The checkpoint, for messages.

    Raises:
        ValueError: If one cannot.
    """
    for rank, state in enumerate(states):
        try:
            of_python, of_numpy = _decoded(state)
            random.Random().setstate(of_python)  # noqa: S311 -- not for secrets
            np.random.RandomState().set_state(of_numpy)
            torch.Generator().set_state(state["torch"])
        except Exception as error:  # each library raises its own
            raise ValueError(
                f"{file}: generators[{rank}]: expected the state of random generators, got what "
                f"cannot be restored ({type(error).__name__})"
            ) from error


def _decoded(state: dict[str, Any]) -> tuple[Any, Any]:
    """Return the states of Python's and of numpy's generator as they take them."""
    version, internal, gauss = state["python"]
    kind, keys, *position = state["numpy"]
    return (version, tuple(internal), gauss), (kind, keys.numpy().astype(np.uint32), *position)


def logged_rows(trainer: L.Trainer) -> str | None:
    """Write `metrics.csv` and return its text; None without it, and on ranks other than 0."""
    log = _log(trainer)
    if log is None:
        return None
    log.save()
    return log.text()


def restore_rows(trainer: L.Trainer, text: str | None) -> None:
    """Go on with the rows of a text that `logged_rows` returned."""
    log = _log(trainer)
    if log is not None and text is not None:
        log.restore(text)


def _log(trainer: L.Trainer) -> CsvLog | None:
    if not trainer.is_global_zero:
        return None
    return next((logger for logger in trainer.loggers if isinstance(logger, CsvLog)), None)
