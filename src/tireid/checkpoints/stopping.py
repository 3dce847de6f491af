"""What the processes of a run do together between two steps: go on, write a checkpoint, stop."""

from enum import IntEnum
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch

from tireid.checkpoints import stop_signals


class Decision(IntEnum):
    """The larger one wins."""

    GO_ON = 0
    SAVE = 1
    STOP = 2


def decide(trainer: L.Trainer, *, due: bool) -> Decision:
    """Return what all processes do now: what any of them is asked for.

    Args:
        trainer: Of the run; all its processes must call this.
        due: Whether a checkpoint is; the first process's counts.
    """
    wanted = Decision.SAVE if trainer.is_global_zero and due else Decision.GO_ON
    if stop_signals.requested():
        wanted = Decision.STOP
    if trainer.world_size == 1:
        return wanted
    every = torch.tensor([wanted], device=trainer.strategy.root_device)
    torch.distributed.all_reduce(every, torch.distributed.ReduceOp.MAX)
    return Decision(int(every.item()))


def stop(trainer: L.Trainer, checkpoint: Path) -> NoReturn:
    """Leave the process, with the code that a batch system requeues on.

    Raises:
        tireid.checkpoints.stop_signals.Stopped: Always.
    """
    environment: Any = getattr(trainer.strategy, "cluster_environment", None)
    launched = environment is not None and not environment.creates_processes_externally
    # Lightning kills the main process when one that it has launched reports a failure.
    code = 0 if launched and trainer.local_rank else stop_signals.EXIT_CODE
    stop_signals.stop(
        f"step {trainer.global_step} is in {checkpoint}; the same settings continue it, with "
        "ckpt_path=last where the run folder has a time stamp",
        code,
    )
