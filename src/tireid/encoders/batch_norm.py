"""Batch normalisation by the statistics of the global batch, however many ranks share it.

The result of PyTorch's own depends on how the batch is shared: on a CPU it sums float32 in an order
that follows the threads, and a ReLU behind it sometimes sees another sign. `SyncBatchNorm` needs a
GPU, and knows neither padding nor samples that several ranks hold.

This is the one module that uses internals of torch: the base class `_BatchNorm` with its
`_check_input_dim`, and the operator `native_batch_norm_backward`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

_TINY = 1e-30
_sample_weights: ContextVar[Tensor | None] = ContextVar("sample_weights", default=None)


@contextmanager
def sample_weights(weights: Float[Tensor, " batch"] | None) -> Iterator[None]:
    """Weight the samples of this rank in the shared statistics of what runs inside.

    Args:
        weights: Weight of each sample: 1 / n if n ranks hold it, 0 if it is there only because the
            rank has no other. None: all count alike.
    """
    token = _sample_weights.set(weights)
    try:
        yield
    finally:
        _sample_weights.reset(token)


def normalise(
    features: Shaped[Tensor, "batch dim *places"],
    valid: Bool[Tensor, "batch 1 *places"] | None,
    layer: Any,
    *,
    epsilon: float,
    momentum: float,
) -> Shaped[Tensor, "batch dim *places"]:
    """Normalise each channel by mean and variance of the batch, then scale and shift it.

    The moments of each sample are computed by themselves and summed in float64. So the result of a
    sample is the same, nearly always to the last bit, however many ranks or threads share the
    batch.

    Args:
        features: This rank's share of the batch. Shares may differ in size.
        valid: True where a position counts; None: everywhere.
        layer: Holds `weight`, `bias`, `running_mean` and `running_var`; the latter two are updated.
            Its `shared_statistics` says whether the statistics are of all ranks, which must then
            all call this, or of this one alone.
        epsilon: Added to the variance.
        momentum: Weight of this batch in the running statistics.

    Returns:
        The normalised features; the values at padding have no meaning.
    """
    weights = _sample_weights.get() if layer.shared_statistics else None
    apply = cast(Any, _Normalise.apply)
    normalised, mean, variance, count = apply(
        features, valid, weights, layer.weight, layer.bias, epsilon, layer.shared_statistics
    )
    with torch.no_grad():
        unbiased = variance * (count / (count - 1).clamp(min=_TINY))
        share = momentum * (count > 0).to(count.dtype)  # an empty batch changes nothing
        for name, value in (("running_mean", mean), ("running_var", unbiased)):
            target = cast(Tensor, getattr(layer, name))
            target.lerp_(value.to(target.dtype), share.to(target.dtype))
    return normalised


class _Normalise(torch.autograd.Function):
    """Compute (x - mean) / std * weight + bias, with the gradient through mean and std."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        valid: Tensor | None,
        weights: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        epsilon: float,
        shared: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = features.to(torch.promote_types(features.dtype, torch.float32))
        moments = _moments(wide, valid, weights)
        count, mean, variance = _statistics(_gathered(moments) if shared else moments[None])
        narrow_mean, narrow_variance = mean.to(wide.dtype), variance.to(wide.dtype)
        out = F.batch_norm(
            features, narrow_mean, narrow_variance, weight, bias, training=False, eps=epsilon
        )
        scale = torch.rsqrt(variance + epsilon).to(wide.dtype)
        ctx.save_for_backward(features, valid, weights, weight, narrow_mean, scale, count)
        ctx.shared = shared
        ctx.mark_non_differentiable(mean, variance, count)
        return out, mean, variance, count

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        features, valid, weights, weight, mean, scale, count = ctx.saved_tensors
        if valid is None and not ctx.shared:  # PyTorch's is faster
            needed = [True, weight is not None, weight is not None]
            statistics = (None, None, mean, scale, True, 0.0)
            grads = torch.ops.aten.native_batch_norm_backward(
                grad_outputs[0], features, weight, *statistics, needed
            )
            return grads[0], None, None, grads[1], grads[2], None, None
        gradient = grad_outputs[0].to(mean.dtype)
        normalised = features.to(mean.dtype) - _per_channel(mean, features)
        normalised = normalised * _per_channel(scale, features)
        sums = torch.stack([_sum(gradient), _sum(gradient * normalised)])
        of_all = sums.clone()
        if ctx.shared:
            dist.all_reduce(of_all)
        shift, slope = of_all / count.clamp(min=_TINY).to(of_all.dtype)
        # What reaches each value through mean and standard deviation.
        indirect = normalised.mul_(_per_channel(slope, features))
        indirect = indirect.add_(_per_channel(shift, features))
        if valid is not None:
            indirect = indirect * valid
        if weights is not None:
            indirect = indirect * weights.reshape(-1, *[1] * (features.dim() - 1))
        gain = scale if weight is None else scale * weight
        result = (gradient - indirect).mul_(_per_channel(gain, features)).to(features.dtype)
        of_layer = (None, None) if weight is None else (sums[1], sums[0])  # DDP sums over ranks
        return result, None, None, *of_layer, None, None


def _moments(wide: Tensor, valid: Tensor | None, weights: Tensor | None) -> Tensor:
    """Return this rank's count, means and sums of squared deviations from them, in float64.

    Those of each sample are computed by themselves, about its own mean, so that nothing cancels.
    """
    wide = wide.flatten(2) if wide.dim() > 2 else wide[..., None]
    if valid is None:
        counts = wide.new_full((len(wide), 1), wide.shape[2], dtype=torch.float64)
        means = wide.mean(2)
        squares = (wide - means[..., None]).square_().sum(2)
    else:
        mask = valid.flatten(2).to(wide.dtype)
        counts = mask.sum(2)
        means = (wide * mask).sum(2) / counts.clamp(min=1)
        squares = ((wide - means[..., None]).square_() * mask).sum(2)
        counts = counts.double()
    means, squares = means.double(), squares.double()
    if weights is not None:
        counts = counts * weights[:, None]
        squares = squares * weights[:, None]
    return torch.cat(_merged(counts, means, squares))


def _merged(counts: Tensor, means: Tensor, squares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Merge moments about several means into those about one (Chan et al.)."""
    count = counts.sum(0)
    mean = (counts * means).sum(0) / count.clamp(min=_TINY)
    return count, mean, (squares + counts * (means - mean).square()).sum(0)


def _gathered(moments: Tensor) -> Tensor:
    """Return the moments of all ranks, a row each."""
    rows = [torch.empty_like(moments) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, moments)
    return torch.stack(rows)


def _statistics(moments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return count, mean and variance from rows of moments."""
    dim = moments.shape[1] // 2
    count, mean, squares = _merged(*moments.split([1, dim, dim], dim=1))
    return count[0], mean, squares / count.clamp(min=_TINY)


def _sum(values: Tensor) -> Tensor:
    return values.sum(dim=[dim for dim in range(values.dim()) if dim != 1])


def _per_channel(channels: Tensor, values: Tensor) -> Tensor:
    return channels.reshape(1, -1, *[1] * (values.dim() - 2))


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """PyTorch's batch norm, except for how the statistics of a training batch are summed.

    Without shared statistics it is PyTorch's on a GPU, in half precision, and when compiled.

    Attributes:
        shared_statistics: Whether they are of all ranks; see `share_statistics`.
    """

    shared_statistics: bool = False

    def forward(self, input: Tensor) -> Tensor:
        half = input.dtype in (torch.bfloat16, torch.float16)  # no last bit to keep
        fast = input.device.type != "cpu" or half or torch.compiler.is_compiling()
        batches = self.num_batches_tracked
        if not self.training or batches is None or (fast and not self.shared_statistics):
            return super().forward(input)
        self._check_input_dim(input)
        if not self.shared_statistics and input.numel() == input.shape[1]:
            return super().forward(input)  # raises: one value has no variance
        batches.add_(1)
        momentum = self.momentum
        if momentum is None:  # PyTorch: the mean of all batches so far
            momentum = 1.0 / float(batches)
        return normalise(input, None, self, epsilon=self.eps, momentum=momentum)


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """An `nn.BatchNorm1d` that does not depend on how the batch is shared."""


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """An `nn.BatchNorm2d` that does not depend on how the batch is shared."""


_REPLACEMENTS: dict[type[nn.Module], type[_BatchNorm]] = {
    nn.BatchNorm1d: BatchNorm1d,
    nn.BatchNorm2d: BatchNorm2d,
}


def replace_batch_norms(model: nn.Module) -> nn.Module:
    """Replace the batch norms in a model, in place; parameters, buffers and names stay.

    Returns:
        The model, or its replacement if it is a batch norm itself.
    """
    for name, child in model.named_children():
        setattr(model, name, replace_batch_norms(child))
    if type(model) not in _REPLACEMENTS:
        return model
    old = cast(_BatchNorm, model)
    new = _REPLACEMENTS[type(model)](
        old.num_features, old.eps, old.momentum, old.affine, old.track_running_stats
    )
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(new, name, getattr(old, name))
    return new.train(old.training)


def share_statistics(model: nn.Module, shared: bool) -> nn.Module:
    """Have a model's layers share the statistics of the batch between all ranks, or stop it.

    Args:
        model: Those of its layers that have an attribute `shared_statistics` are told.
        shared: Whether statistics are of all ranks.

    Returns:
        The model.
    """
    for module in model.modules():
        if hasattr(module, "shared_statistics"):
            setattr(module, "shared_statistics", shared)  # noqa: B010 -- nn.Module's types
    return model
