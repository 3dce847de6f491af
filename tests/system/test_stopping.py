"""Signals and losses that are not finite: what a run that must stop leaves."""

import json
import os
import signal

import pytest
import torch

from tireid.checkpoints import stop_signals
from tireid.training.lightning_module import LightningMethod
from tireid.training.run import train

COMMON = ["model=baseline", "trainer.log_every_n_steps=1"]


@pytest.fixture(autouse=True)
def _signals():
    """Leave the process's handlers as they were."""
    handlers = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGUSR1)}
    stop_signals.reset()
    yield
    stop_signals.reset()
    for name, handler in handlers.items():
        signal.signal(name, handler)


@pytest.fixture(scope="module")
def metrics(undrawn_config, tmp_path_factory):
    """Return what a run measures that nobody stops."""
    return train(undrawn_config(tmp_path_factory.mktemp("whole"), *COMMON))


def signal_in(monkeypatch, hook, step, number=signal.SIGTERM):
    """Have a hook of the method send a signal to this process, once, at a step."""
    original = getattr(LightningMethod, hook)

    def sending(self, *arguments):
        if self.global_step == step:
            monkeypatch.setattr(LightningMethod, hook, original)
            os.kill(os.getpid(), number)
        return original(self, *arguments)

    monkeypatch.setattr(LightningMethod, hook, sending)


@pytest.mark.parametrize(
    ("hook", "step", "number", "saved"),
    [
        ("total_loss", 5, signal.SIGTERM, 6),  # within the sixth step
        ("total_loss", 3, signal.SIGUSR1, 4),  # within an epoch's last step: no validation first
        ("validation_step", 4, signal.SIGTERM, 4),  # within a validation, which is done anew
        ("test_step", 8, signal.SIGTERM, 8),  # after the training
    ],
)
def test_a_signal_ends_the_step_and_the_run_continues_exactly(
    undrawn_config, tmp_path, monkeypatch, metrics, hook, step, number, saved
):
    stop_signals.listen()  # as the entry point does
    signal_in(monkeypatch, hook, step, number)
    cfg = undrawn_config(tmp_path, *COMMON)
    with pytest.raises(stop_signals.Stopped) as stopped:
        train(cfg)
    assert stopped.value.code == 75
    assert signal.Signals(number).name in stopped.value.message
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == saved
    assert train(cfg) == metrics
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert [found["epoch"] for found in record["validations"]] == [1, 2]


def test_before_training_a_signal_ends_the_process_at_once(undrawn_config, tmp_path, monkeypatch):

    stop_signals.listen()
    monkeypatch.setattr(
        "tireid.training.run.build_encoders", lambda _: os.kill(os.getpid(), signal.SIGTERM) or {}
    )
    with pytest.raises(stop_signals.Stopped) as stopped:
        train(undrawn_config(tmp_path, *COMMON))
    assert stopped.value.code == 75
    assert not (tmp_path / "checkpoints").exists()


def test_a_loss_that_is_not_finite_is_named_and_no_checkpoint_learns_from_it(
    undrawn_config, small_data, tmp_path, monkeypatch
):
    total_loss = LightningMethod.total_loss
    seen = []

    def poisoned(self, terms, batch_size):
        if self.global_step == 5:
            terms = terms | {"id": terms["id"] * float("nan")}
        return total_loss(self, terms, batch_size)

    def watched(self, batch, batch_idx, step=LightningMethod.training_step):
        seen.append((batch.index.tolist(), batch.image_id.tolist()))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(LightningMethod, "total_loss", poisoned)
    monkeypatch.setattr(LightningMethod, "training_step", watched)
    every = "callbacks.last.every_n_train_steps=1"
    with pytest.raises(FloatingPointError, match=r"step 6 \(epoch 2\): .* got id=nan; its batch"):
        train(undrawn_config(tmp_path, *COMMON, every))
    found = json.loads((tmp_path / "nonfinite_step6.json").read_text())
    pairs, images = seen[5]
    records = small_data.records("train")
    assert found["pairs"] == pairs
    assert found["image_files"] == [str(records[image].image_path) for image in images]
    assert (found["epoch"], found["step"], found["terms"]["id"]) == (2, 6, "nan")
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 5
    assert all(weight.isfinite().all() for weight in last["state_dict"].values())
