"""Muon for matrices and AdamW for all else, as one optimiser."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import AdamW

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Muon's quintic


class MuonAdamW(AdamW):
    """Give matrices a step along their orthogonalised momentum, and all else AdamW's.

    A convolution is the matrix from its inputs to its output channels. Identity heads and, by
    `longest`, word embeddings are left to AdamW: each of their rows is a class or a word by itself.

    Args:
        groups: Parameter groups with a rate each; those with matrices are divided in two.
        rms: Root mean square of the step of a matrix, in units of its rate, above 0. Steps of AdamW
            have about 0.2, with which rates that were chosen for it fit.
        momentum: Of the matrices, in [0, 1).
        longest: Longer side of a matrix in units of the shorter, from which on it is left to
            AdamW. A 3x3 convolution that keeps the number of channels has 9.
        apart: Start of the names of groups that are left to AdamW.
        **adamw: Further arguments of `torch.optim.AdamW`; its weight decay is for matrices, too.

    Source:
        Jordan et al., Muon, 2024 (kellerjordan.github.io/posts/muon); the size of a step from Liu
        et al., Muon is Scalable for LLM Training, 2025 (arXiv 2502.16982), section 2.2.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        rms: float = 0.2,
        momentum: float = 0.95,
        longest: float = math.inf,
        apart: str = "classifier",
        **adamw: Any,
    ) -> None:
        if not 0 < rms < math.inf:
            raise ValueError(f"rms: expected a number above 0, got {rms}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum: expected a number in [0, 1), got {momentum}")
        if not longest > 1:
            raise ValueError(f"longest: expected a number above 1, got {longest}")
        settings = {"rms": rms, "momentum": momentum}
        super().__init__(_divided(groups, apart, longest, settings), **adamw)
        # Else a scaler of gradients leaves it to AdamW's fused kernel to undo the scale.
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: Computes the loss and its gradients.
        """
        loss = None
        if closure is not None:  # here, where it sees all groups
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["matrices"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            if group["matrices"]:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        rate, momentum = group["lr"], group["momentum"]
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())  # which AdamW expects of every state that it restores
            state["momentum_buffer"] = torch.zeros_like(parameter)
        state["step"] += 1
        average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        matrix = gradient.lerp(average, momentum).flatten(1)  # Nesterov's
        step = orthogonal(matrix).mul_(group["rms"] * math.sqrt(max(matrix.shape)))
        parameter.mul_(1 - rate * group["weight_decay"]).sub_(step.view_as(parameter), alpha=rate)


def orthogonal(
    matrix: Float[Tensor, "rows columns"], iterations: int = 5
) -> Float[Tensor, "rows columns"]:
    """Return a matrix of the same singular vectors and singular values near 1, from 0.7 to 1.2.

    Args:
        matrix: Not all 0, else the result is 0.
        iterations: Of Newton and Schulz, in bfloat16.
    """
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.bfloat16()
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(iterations):
        gram = x.mT @ x if tall else x @ x.mT
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.addmm(x, *((x, factor) if tall else (factor, x)), beta=a)
    return x.to(matrix.dtype)


def _divided(
    groups: Iterable[dict[str, Any]], apart: str, longest: float, settings: dict[str, float]
) -> list[dict[str, Any]]:
    divided: list[dict[str, Any]] = []
    for group in groups:
        name = str(group.get("name", ""))
        parts: dict[bool, list[nn.Parameter]] = {False: [], True: []}
        for parameter in group["params"]:
            is_matrix = parameter.ndim > 1 and not name.startswith(apart)
            parts[is_matrix and _aspect(parameter) < longest].append(parameter)
        for matrices, parameters in parts.items():
            if parameters:
                own = {"params": parameters, "matrices": matrices, **(settings if matrices else {})}
                divided.append({**group, **own, "name": name + "_matrices" * matrices})
    return divided


def _aspect(parameter: nn.Parameter) -> float:
    sides = parameter.flatten(1).shape
    return max(sides) / min(sides)
