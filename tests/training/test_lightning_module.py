"""A method in the trainer: its names, what it is told of the training, what it may not be."""

from types import SimpleNamespace

import lightning as L
import pytest
import torch
from torch import nn

from tireid.methods.base import RetrievalModule, TrainingTerms
from tireid.structures import PairBatch
from tireid.training.lightning_module import LightningMethod


class Method(RetrievalModule):
    """One weight, which two encoders share the batch of."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.told = []
        self.register_buffer("memory", torch.zeros(1))
        self._ddp_params_and_buffers_to_ignore = ["memory"]

    def training_terms(self, batch, step):
        features = self.weight * torch.ones(3, 1)
        return TrainingTerms({"a": self.weight, "b": 3 * self.weight}, features, features)

    def measurements(self, terms, step):
        return {"norm": terms.images.detach().norm()}

    def begin_training(self, steps, epochs):
        self.told.append((steps, epochs))

    def begin_epoch(self, epoch, training_pass):
        self.told.append(epoch)

    def on_save_checkpoint(self, checkpoint):
        checkpoint["told"] = self.told

    def on_load_checkpoint(self, checkpoint):
        self.told = checkpoint["told"]


@pytest.fixture
def module(monkeypatch):
    made = LightningMethod(Method())
    made.logged = {}
    monkeypatch.setattr(made, "log_dict", lambda values, **_: made.logged.update(values))
    rows = SimpleNamespace(log_metrics=lambda row, step: made.logged.update(row))
    made._trainer = SimpleNamespace(
        global_step=5,
        current_epoch=1,
        estimated_stepping_batches=8,
        max_epochs=2,
        loggers=[rows],
    )
    return made


def test_weights_have_the_names_of_the_method(module):
    weights = {"weight": torch.tensor(7.0), "memory": torch.ones(1)}
    assert module.state_dict().keys() == weights.keys()
    module.load_state_dict(weights)
    assert module.method.weight == 7
    with pytest.raises(RuntimeError, match=r"loading state_dict for Method:\n.*other"):
        module.load_state_dict(weights | {"other": torch.ones(1)})
    # DDP compares with the names in the module that it is given.
    names = {name for name, _ in module.named_buffers()}
    assert set(module._ddp_params_and_buffers_to_ignore) == names


def test_a_step_is_the_sum_of_the_terms_and_logs_them_with_what_is_measured(module):
    rows, ids = torch.arange(3), torch.ones(3, 2, dtype=torch.long)
    batch = PairBatch(torch.zeros(3, 3, 2, 2), ids, ids > 0, rows, rows, rows, rows)
    total = module.training_step(batch, 0)
    assert total == 8
    total.backward()
    assert module.method.weight.grad == 4
    losses = {"train/loss_a": 2, "train/loss_b": 6, "train/loss": 8}
    assert module.logged == losses | {"train/norm": pytest.approx(12**0.5), "epoch": 1}
    assert module.latest_terms == {"a": 2, "b": 6}


def test_a_method_is_told_of_the_training_and_keeps_its_state_in_checkpoints(module):
    module.on_train_start()
    module.on_train_epoch_start()
    checkpoint = {}
    module.on_save_checkpoint(checkpoint)
    assert checkpoint == {"told": [(8, 2), 1]}
    module.on_load_checkpoint({"told": []})
    assert module.method.told == []


@pytest.mark.parametrize("name", ["training_step", "on_train_epoch_start", "configure_optimizers"])
def test_a_method_with_hooks_that_nobody_calls_is_refused(name):
    kind = type("Mine", (Method,), {name: lambda self, *_: None})
    with pytest.raises(ValueError, match=rf"Mine: expected a method without .* got {name}; put"):
        LightningMethod(kind())


def test_a_method_is_no_module_of_lightning():
    assert not issubclass(RetrievalModule, L.LightningModule)
