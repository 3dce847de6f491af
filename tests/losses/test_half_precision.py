"""All losses of the package under mixed precision; the walk finds those that are added later."""

import importlib
import inspect
import pkgutil

import pytest
import torch

import tireid.losses
from tireid.losses.identity import sampled_identity_loss

BATCH, WIDTH = 8, 5


def found_losses():
    for module in pkgutil.iter_modules(tireid.losses.__path__, "tireid.losses."):
        for name, member in vars(importlib.import_module(module.name)).items():
            own = getattr(member, "__module__", None) == module.name
            if own and name.endswith("_loss") and not name.startswith("_"):
                yield member


LOSSES = sorted(found_losses(), key=lambda loss: loss.__name__)


def compute(loss, dtype, *, seen_as=None, autocast=False):
    """The loss and its gradients for fixed inputs of a type, handed over as another if given."""
    torch.manual_seed(0)
    arguments = {}
    for name, parameter in inspect.signature(loss).parameters.items():
        if name in ("pids", "labels", "words"):
            arguments[name] = torch.arange(BATCH) % WIDTH
        elif name == "weights" and loss is sampled_identity_loss:
            arguments[name] = torch.arange(1.0, WIDTH + 1)
        elif parameter.default is inspect.Parameter.empty:
            features = torch.randn(BATCH, WIDTH).to(dtype)
            arguments[name] = features.to(seen_as or dtype).requires_grad_()
    torch.manual_seed(1)  # of what a loss draws
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        value = loss(**arguments)
    value.backward()
    # A distillation's teacher gets no gradient.
    gradients = [given.grad for given in arguments.values() if given.grad is not None]
    assert gradients
    return value.detach(), gradients


def test_the_walk_finds_the_losses():
    assert {loss.__name__ for loss in LOSSES} >= {
        "cmpm_loss",
        "identity_loss",
        "info_nce_loss",
        "ranking_loss",
        "sdm_loss",
    }


@pytest.mark.parametrize("loss", LOSSES)
def test_autocast_changes_nothing(loss):
    expected, expected_gradients = compute(loss, torch.float32)
    value, gradients = compute(loss, torch.float32, autocast=True)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    assert value != 0
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert torch.equal(gradient, wanted)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_half_inputs_are_computed_in_float32(loss, autocast):
    expected, _ = compute(loss, torch.bfloat16, seen_as=torch.float32)
    value, gradients = compute(loss, torch.bfloat16, autocast=autocast)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    assert all(gradient.dtype == torch.bfloat16 for gradient in gradients)
