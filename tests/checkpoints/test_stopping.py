"""All ranks do the same, whichever of them was asked."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import create_autospec

import lightning as L
import pytest
import torch

from tireid.checkpoints import stop_signals, stopping
from tireid.checkpoints.stopping import Decision, decide


def stub_trainer(world_size=1, rank=0):
    return create_autospec(
        L.Trainer,
        instance=True,
        world_size=world_size,
        is_global_zero=rank == 0,
        global_step=12,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )


def receive_signal():
    stop_signals.listen()
    stop_signals.hold()
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_outweighs_a_checkpoint_that_is_due():
    trainer = stub_trainer()
    assert decide(trainer, due=False) == Decision.GO_ON
    assert decide(trainer, due=True) == Decision.SAVE
    receive_signal()
    assert decide(trainer, due=False) == decide(trainer, due=True) == Decision.STOP


def test_the_message_says_what_was_written_and_how_to_go_on():
    receive_signal()
    with pytest.raises(stop_signals.Stopped) as stopped:
        stopping.stop(stub_trainer(), Path("run/checkpoints/last.ckpt"))
    assert stopped.value.code == 75
    assert stopped.value.message == (
        "stopped by SIGTERM: step 12 is in run/checkpoints/last.ckpt; the same settings continue "
        "it, with ckpt_path=last where the run folder has a time stamp"
    )


def decisions(rank):
    trainer = stub_trainer(world_size=2, rank=rank)
    found = [decide(trainer, due=False)]
    found.append(decide(trainer, due=rank == 0))
    found.append(decide(trainer, due=rank == 1))  # the clock of rank 0 counts
    if rank == 1:
        receive_signal()
    found.append(decide(trainer, due=False))
    return [int(decision) for decision in found]


@pytest.mark.slow
@pytest.mark.ddp
def test_ranks_decide_as_one(on_two_ranks):
    expected = [Decision.GO_ON, Decision.SAVE, Decision.GO_ON, Decision.STOP]
    assert on_two_ranks(decisions) == [expected, expected]
