"""Where in an epoch a checkpoint stands, in the words of Lightning's loops.

Lightning restarts its loops by comparing counters of what was ready, started, processed and
completed, and what it makes of them depends on the hook that the checkpoint was written in. Here
the counters are set to one of three states that it continues exactly:

- between epochs: everything completed;
- after a step within an epoch: its batches completed, the epoch started;
- before a validation: likewise, and a validation started of which nothing was done.
"""

from typing import Any


def batches_done(fit: dict[str, Any]) -> int:
    """Return how many batches of the epoch under way are done; 0 between epochs.

    Args:
        fit: The state of Lightning's fit loop.
    """
    epochs = fit["epoch_progress"]["current"]
    within = epochs["started"] > epochs["processed"]
    return fit["epoch_loop.batch_progress"]["current"]["processed"] if within else 0


def settle(fit: dict[str, Any], *, validation_due: bool) -> int | None:
    """Set the counters in a fit loop's state to where the last completed step stands.

    Args:
        fit: The state of Lightning's fit loop; changed in place.
        validation_due: Whether the last step's validation is still to be done.

    Returns:
        The number of steps that loggers count from there; None: Lightning counts on by itself.
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
