"""Decide together, between two steps, whether to go on, write a checkpoint or stop."""

from enum import IntEnum
from pathlib import Path
from typing import NoReturn

import lightning as L
import torch

from tireid.checkpoints import stop_signals


class Decision(IntEnum):
    """What to do next; of several ranks' decisions the largest counts."""

    GO_ON = 0
    SAVE = 1
    STOP = 2


def decide(trainer: L.Trainer, *, due: bool) -> Decision:
    """Return what all ranks do now. All of them must call this.

    Args:
        trainer: The trainer of the run.
        due: Whether a checkpoint is due; that of rank 0 counts.
    """
    decision = Decision.SAVE if trainer.is_global_zero and due else Decision.GO_ON
    if stop_signals.requested():
        decision = Decision.STOP
    if trainer.world_size == 1:
        return decision
    largest = torch.tensor([decision], device=trainer.strategy.root_device)
    torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
    return Decision(int(largest.item()))


def stop(trainer: L.Trainer, checkpoint: Path) -> NoReturn:
    """End the process with the exit code that a batch system requeues on.

    Args:
        trainer: The trainer of the run.
        checkpoint: The file that was written.

    Raises:
        tireid.checkpoints.stop_signals.Stopped: Always.
    """
    stop_signals.stop(
        f"step {trainer.global_step} is in {checkpoint}; the same settings continue it, with "
        "ckpt_path=last where the run folder has a time stamp"
    )
