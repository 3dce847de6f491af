"""Batch normalisation by the statistics of the global batch, whatever processes share it.

PyTorch's `SyncBatchNorm` refuses the CPU, and knows neither padding nor samples that several
processes have.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, nn

_TINY = 1e-30
_sample_weights: ContextVar[Tensor | None] = ContextVar("sample_weights", default=None)


@contextmanager
def sample_weights(weights: Float[Tensor, " batch"] | None) -> Iterator[None]:
    """Have the samples of what runs inside count by their weights in statistics that are shared.

    Args:
        weights: One for each sample of this process: 1 / n for one that n processes have, 0 for one
            that is there only because the process has no other. None: all count alike.
    """
    token = _sample_weights.set(weights)
    try:
        yield
    finally:
        _sample_weights.reset(token)


def normalise_over_processes(
    features: Shaped[Tensor, "batch dim *places"],
    valid: Shaped[Tensor, "batch 1 *places"],
    running: nn.Module,
    *,
    epsilon: float,
    momentum: float,
) -> Float[Tensor, "batch dim *places"]:
    """Normalise each channel by mean and variance of the processes' shares taken together.

    All processes must call it alike; their shares may differ in size, and be of no weight.

    Args:
        features: This process's share.
        valid: 1 (or True) where a position counts, 0 at padding.
        running: Has `running_mean` and `running_var`, which follow.
        epsilon: Added to the variance.
        momentum: Share of a new batch in the running statistics.

    Returns:
        In float32 or better. What stands at padding has no meaning.
    """
    weights = _sample_weights.get()
    counted = valid.to(torch.promote_types(features.dtype, torch.float32))
    if weights is not None:
        counted = counted * weights.reshape(-1, *[1] * (features.dim() - 1))
    apply = cast(Any, _Normalise.apply)
    normalised, mean, variance, count = apply(features, counted, epsilon)
    with torch.no_grad():
        unbiased = variance * (count / (count - 1).clamp(min=_TINY))
        share = momentum * (count > 0).to(count.dtype)  # a batch of nothing moves nothing
        for name, value in (("running_mean", mean), ("running_var", unbiased)):
            target = cast(Tensor, getattr(running, name))
            target.lerp_(value.to(target.dtype), share.to(target.dtype))
    return normalised


class _Normalise(torch.autograd.Function):
    """(x - mean) / std over all processes; its gradient knows what x does to mean and std."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weights: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = features.to(weights.dtype)
        count = weights.expand_as(wide[:, :1]).sum()
        mean = _sums(wide * weights) / count.clamp(min=_TINY)
        squares = _sums((wide - _beside(mean, wide)).square() * weights)
        # Sums of squares about each share's own mean are joined (Chan et al.): no cancellation.
        own = torch.cat([count[None], mean, squares])
        shares = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(shares, own)
        counts, means, parts = torch.stack(shares).split([1, len(mean), len(mean)], dim=1)
        count = counts.sum()
        total = count.clamp(min=_TINY)
        mean = (counts * means).sum(0) / total
        variance = (parts + counts * (means - mean).square()).sum(0) / total
        scale = torch.rsqrt(variance + epsilon)
        normalised = (wide - _beside(mean, wide)) * _beside(scale, wide)
        ctx.save_for_backward(normalised, weights, scale, total)
        ctx.dtype = features.dtype
        ctx.mark_non_differentiable(mean, variance, count)
        return normalised, mean, variance, count

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        normalised, weights, scale, total = ctx.saved_tensors
        gradient = grad_outputs[0]
        means = torch.stack([_sums(gradient), _sums(gradient * normalised)]) / total
        dist.all_reduce(means)
        shift, slope = (_beside(mean, gradient) for mean in means)
        gradient = (gradient - weights * (shift + normalised * slope)) * _beside(scale, gradient)
        return gradient.to(ctx.dtype), None, None


def _sums(values: Tensor) -> Tensor:
    return values.sum(dim=[dim for dim in range(values.dim()) if dim != 1])


def _beside(channels: Tensor, values: Tensor) -> Tensor:
    return channels.reshape(1, -1, *[1] * (values.dim() - 2))


class _SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """In training, statistics of all processes; else as it was."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.running_mean is None or self.num_batches_tracked is None:
            return super().forward(input)
        self._check_input_dim(input)
        self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:  # PyTorch: the mean of all batches so far
            momentum = 1.0 / float(self.num_batches_tracked)
        valid = torch.ones_like(input[:, :1], dtype=torch.bool)
        normalised = normalise_over_processes(
            input, valid, self, epsilon=self.eps, momentum=momentum
        )
        if self.affine:
            normalised = normalised * _beside(self.weight, input) + _beside(self.bias, input)
        return normalised.to(input.dtype)


class SharedBatchNorm1d(_SharedBatchNorm, nn.BatchNorm1d):
    """`nn.BatchNorm1d` over all processes."""


class SharedBatchNorm2d(_SharedBatchNorm, nn.BatchNorm2d):
    """`nn.BatchNorm2d` over all processes."""


_SHARED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: SharedBatchNorm1d,
    nn.BatchNorm2d: SharedBatchNorm2d,
}
_OWN = {shared: own for own, shared in _SHARED.items()}


class BatchNormSync(LayerSync):
    """Has the batch norms of a model take the statistics of all processes while it is fitted.

    Layers change their class in place: their weights, buffers and names stay. A layer with an
    attribute `shared_statistics` is told by it. On one process nothing changes.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Join the statistics."""
        return _convert(model, _SHARED, True) if dist.get_world_size() > 1 else model

    def revert(self, model: nn.Module) -> nn.Module:
        """Part them again."""
        return _convert(model, _OWN, False)


def _convert(
    model: nn.Module, classes: dict[type[nn.Module], type[nn.Module]], shared: bool
) -> nn.Module:
    for module in model.modules():
        if hasattr(module, "shared_statistics"):
            setattr(module, "shared_statistics", shared)  # noqa: B010 -- nn.Module's types
        elif type(module) in classes:
            module.__class__ = classes[type(module)]
    return model
