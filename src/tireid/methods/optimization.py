"""The optimiser of a method: a group of parameters for each of its learning rates."""

import math
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from tireid.encoders.blocks import ENCODERS, named, no_blocks, parts_by_depth
from tireid.methods.base import RetrievalModule


def optimizer_of(method: RetrievalModule, total_steps: int) -> tuple[Optimizer, dict[str, Any]]:
    """Return the optimiser of a method and the schedule of its rates, as the method's config says.

    Args:
        method: The method to train.
        total_steps: Steps of the whole training.

    Returns:
        The optimiser, and Lightning's entry for the schedule.

    Raises:
        ValueError: If there is none, or a rate is missing or wrong.
    """
    if method.build_optimizer is None or method.build_schedule is None:
        raise ValueError("expected an optimizer and a schedule to train with, got none")
    optimizer = method.build_optimizer(_groups(method))
    for module in method.modules():  # a head may train some rows of its weights at a time
        if hasattr(module, "follow"):
            module.follow(optimizer)  # pyright: ignore[reportCallIssue] -- nn.Module attribute
    return optimizer, method.build_schedule(optimizer, total_steps=total_steps)


def _groups(method: RetrievalModule) -> list[dict[str, Any]]:
    """Give each named group its learning rate; frozen parameters are left out."""
    biases = {id(p) for name, p in method.named_parameters() if "bias" in name.rpartition(".")[2]}
    groups: list[dict[str, Any]] = []
    for name, parameters in method.parameter_groups().items():
        rate = _rate(method, name)
        for part, (factor, trainable) in _parts(method, name, parameters).items():
            apart: list[nn.Parameter] = []
            if f"{name}_bias" in method.learning_rates:
                apart = [p for p in trainable if id(p) in biases]
                trainable = [p for p in trainable if id(p) not in biases]
            if trainable:
                groups.append({"params": trainable, "lr": rate * factor, "name": name + part})
            if apart:
                rate_apart = _rate(method, f"{name}_bias") * factor
                own = {"lr": rate_apart, "name": f"{name}_bias{part}"}
                groups.append({"params": apart, "weight_decay": 0.0} | own)
    if method.layer_decay != 1 and not any("_block" in group["name"] for group in groups):
        raise ValueError(no_blocks("layer_decay", method.layer_decay))
    return groups


def _parts(
    method: RetrievalModule, name: str, parameters: Iterable[nn.Parameter]
) -> dict[str, tuple[float, list[nn.Parameter]]]:
    """Return the trained parameters of a group by part, with the factor of its rate."""
    if name not in ENCODERS or method.layer_decay == 1:
        return {"": (1.0, [p for p in parameters if p.requires_grad])}
    parts = parts_by_depth(named(method, parameters), method.layer_decay)
    return {f"_{part}" if part else "": value for part, value in parts.items()}


def _rate(method: RetrievalModule, name: str) -> float:
    rates = method.learning_rates
    if name not in rates:
        raise ValueError(f"learning_rates: expected a rate for {name!r}, got {sorted(rates)}")
    rate = rates[name]
    if type(rate) not in (int, float) or not 0 <= rate < math.inf:
        raise ValueError(f"learning_rates.{name}: expected a number >= 0, got {rate!r}")
    return rate
