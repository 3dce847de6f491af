"""The average of the weights is validated and kept, and training goes on with the current ones."""

import copy
from types import SimpleNamespace
from unittest.mock import Mock

import lightning as L
import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from tireid.checkpoints.weight_average import STATE, WeightAverage


@pytest.fixture
def module():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.BatchNorm1d(2))
    model.get_submodule("1").weight = model.get_parameter("0.weight")  # tied
    model.get_parameter("1.bias").requires_grad_(False)
    return model


class Module(L.LightningModule):
    """Holds a method."""

    def __init__(self, method):
        super().__init__()
        self.method = method


@pytest.fixture
def trainer():
    state = SimpleNamespace(fn=TrainerFn.FITTING)
    return Mock(spec=L.Trainer, global_step=0, state=state)


def step(average, trainer, module, *, done=True):
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter += 1
    trainer.global_step += done
    average.on_train_batch_end(trainer, Module(module), None, None, 0)


def saved(average, trainer, module):
    checkpoint = {"state_dict": dict(module.state_dict())}
    average.on_save_checkpoint(trainer, Module(module), checkpoint)
    return copy.deepcopy(checkpoint)  # a file, which shares nothing with the model


def test_a_validation_and_a_checkpoint_have_the_average_also_within_a_validation(module, trainer):
    average, before = WeightAverage(0.5), {n: t.clone() for n, t in module.state_dict().items()}
    average.on_train_start(trainer, Module(module))
    step(average, trainer, module)
    step(average, trainer, module)
    step(average, trainer, module, done=False)  # a part of a batch: no step
    expected = before["0.weight"] + 1.25  # (0 + 1) / 2, then (0.5 + 2) / 2
    current = before["0.weight"] + 3
    for within in (False, True):
        if within:
            average.on_validation_start(trainer, Module(module))
            torch.testing.assert_close(module.get_parameter("0.weight"), expected)
        checkpoint = saved(average, trainer, module)
        torch.testing.assert_close(checkpoint["state_dict"]["0.weight"], expected)
        torch.testing.assert_close(checkpoint["state_dict"]["1.weight"], expected)
        assert torch.equal(checkpoint["state_dict"]["1.bias"], before["1.bias"])
        torch.testing.assert_close(checkpoint[STATE]["0.weight"], current)
        assert set(checkpoint[STATE]) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    average.on_validation_end(trainer, Module(module))
    torch.testing.assert_close(module.get_parameter("0.weight"), current)


def test_a_resumed_training_has_both_to_the_bit(module, trainer):
    average = WeightAverage(0.9)
    average.on_train_start(trainer, Module(module))
    step(average, trainer, module)
    checkpoint = saved(average, trainer, module)
    current = module.get_parameter("0.weight").detach().clone()
    module.load_state_dict(checkpoint["state_dict"])
    resumed = WeightAverage(0.9)
    resumed.on_load_checkpoint(trainer, Module(module), checkpoint)
    resumed.on_train_start(trainer, Module(module))
    assert torch.equal(module.get_parameter("0.weight"), current)
    resumed.on_validation_start(trainer, Module(module))
    assert torch.equal(module.get_parameter("0.weight"), checkpoint["state_dict"]["0.weight"])


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda state: None, "got none"),
        (lambda state: state | {"more": torch.zeros(1)}, "got other names, such as more"),
        (lambda state: state | {"0.bias": torch.zeros(3)}, "got 0.bias of shape"),
        (lambda state: state | {"0.bias": torch.full((2,), torch.nan)}, "not finite in 0.bias"),
        (lambda state: state | {"0.bias": 3}, "no tensor by name"),
    ],
)
def test_current_weights_of_another_kind_are_refused(module, trainer, change, got):
    average = WeightAverage(0.9)
    average.on_train_start(trainer, Module(module))
    checkpoint = saved(average, trainer, module)
    checkpoint[STATE] = change(checkpoint[STATE])
    with pytest.raises(ValueError, match=f"{STATE}: expected the weights .*{got}"):
        WeightAverage(0.9).on_load_checkpoint(trainer, Module(module), checkpoint)


def test_without_a_decay_nothing_is_kept(module, trainer):
    average = WeightAverage()
    average.on_train_start(trainer, Module(module))
    step(average, trainer, module)
    average.on_validation_start(trainer, Module(module))
    assert saved(average, trainer, module).keys() == {"state_dict"}
