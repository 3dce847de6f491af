"""Muon for matrices and AdamW for all else, as one optimiser."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import AdamW

from tireid.losses.precision import without_tf32

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
        iterations: Of Newton and Schulz, above 0: with each, smaller singular values of the
            momentum count as much as the largest.
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
        iterations: int = 5,
        longest: float = math.inf,
        apart: str = "classifier",
        **adamw: Any,
    ) -> None:
        if not 0 < rms < math.inf:
            raise ValueError(f"rms: expected a number above 0, got {rms}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum: expected a number in [0, 1), got {momentum}")
        if type(iterations) is not int or iterations < 1:
            raise ValueError(f"iterations: expected a whole number above 0, got {iterations!r}")
        if not longest > 1:
            raise ValueError(f"longest: expected a number above 1, got {longest}")
        settings = {"rms": rms, "momentum": momentum, "iterations": iterations}
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
                self._move([p for p in group["params"] if p.grad is not None], group)
        return loss

    def _move(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        rate, momentum = group["lr"], group["momentum"]
        directions: list[Tensor] = []
        for parameter in parameters:
            gradient, state = cast(Tensor, parameter.grad), self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())  # which AdamW expects of every state it restores
                state["momentum_buffer"] = torch.zeros_like(parameter)
            state["step"] += 1
            average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
            directions.append(gradient.lerp(average, momentum).flatten(1))  # Nesterov's
        steps = orthogonal(directions, group.get("iterations", 5))  # early states do not say
        for parameter, step in zip(parameters, steps, strict=True):
            size = group["rms"] * math.sqrt(max(step.shape))
            parameter.mul_(1 - rate * group["weight_decay"])
            parameter.sub_(step.view_as(parameter), alpha=rate * size)


def orthogonal(
    matrices: Sequence[Float[Tensor, "_ _"]], iterations: int = 5
) -> list[Float[Tensor, "_ _"]]:
    """Return matrices of the same singular vectors and singular values near 1, from 0.7 to 1.2.

    Newton's and Schulz's iterations map the singular values alone, so they run on the product of a
    matrix with itself, which is as wide as its shorter side: for long matrices a fraction of the
    work, and those of one width share it. There float32 is needed, since small values grow.

    Args:
        matrices: In float32 or better. One that is all 0 stays so.
        iterations: Of Newton and Schulz.
    """
    by_width: dict[tuple[int, torch.device], list[int]] = {}
    for index, matrix in enumerate(matrices):
        by_width.setdefault((min(matrix.shape), matrix.device), []).append(index)
    results = list(matrices)
    for indices in by_width.values():
        chosen = [matrices[i] / matrices[i].norm().clamp(min=1e-7) for i in indices]
        with without_tf32():
            grams = torch.stack([x.mT @ x if _is_tall(x) else x @ x.mT for x in chosen])
            maps = _polynomials(grams, iterations).bfloat16()
        for index, x, whole in zip(indices, chosen, maps, strict=True):
            step = x.bfloat16() @ whole if _is_tall(x) else whole @ x.bfloat16()
            results[index] = step.to(x.dtype)
    return results


def _polynomials(
    grams: Float[Tensor, "many width width"], iterations: int
) -> Float[Tensor, "many width width"]:
    """Return what the iterations multiply each matrix with, from its product with itself."""
    a, b, c = _COEFFICIENTS
    whole = grams
    for number in range(iterations):
        factor = torch.baddbmm(grams, grams, grams, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        whole = factor @ whole if number else factor
        if number < iterations - 1:
            grams = factor @ grams @ factor
    return whole


def _is_tall(matrix: Tensor) -> bool:
    return matrix.shape[0] > matrix.shape[1]


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
