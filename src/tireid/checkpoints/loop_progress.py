"""Set Lightning's loop counters in a checkpoint to the last step that is done.

Lightning restarts its loops by comparing counters of what was ready, started, processed and
completed, and the outcome depends on the hook that the checkpoint was written in. Here the
counters are set to one of three states that it continues exactly:

- between epochs: everything is completed;
- after a step within an epoch: its batches are completed, the epoch is started;
- before a validation: the same, and a validation is started of which nothing is done.

This is the one module that relies on the internals of Lightning's loops (2.6): the layout of their
state, and `_batches_that_stepped`, the number of steps that loggers count.
"""

from typing import Any

import lightning as L


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
