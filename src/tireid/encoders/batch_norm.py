"""Batch normalisation by the statistics of the global batch, whatever processes share it.

PyTorch's own depends on how a batch is shared: on a CPU it adds float32 up in an order that follows
the threads, and a ReLU behind it then now and then sees another sign. `SyncBatchNorm` refuses the
CPU, and knows neither padding nor samples that several processes have.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Shaped
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, nn
from torch.nn import functional as F

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


def normalise(
    features: Shaped[Tensor, "batch dim *places"],
    valid: Bool[Tensor, "batch 1 *places"] | None,
    layer: Any,
    *,
    epsilon: float,
    momentum: float,
) -> Shaped[Tensor, "batch dim *places"]:
    """Normalise each channel by mean and variance of the batch, then scale and shift it.

    What a sample adds to the statistics does not depend on the others, and is added up in float64.
    So the result of a sample is the same, nearly always to the last bit, however many processes or
    threads share the batch.

    Args:
        features: This process's share; where shares differ in size, or are of no weight, the
            statistics still are those of all samples.
        valid: True where a position counts; None: everywhere.
        layer: Has `weight`, `bias`, `running_mean` and `running_var`, of which the latter two
            follow; `shared_statistics` says whether the statistics are of all processes, which must
            then all call this, or of this one alone.
        epsilon: Added to the variance.
        momentum: Share of a new batch in the running statistics.

    Returns:
        What stands at padding has no meaning.
    """
    weights = _sample_weights.get() if layer.shared_statistics else None
    apply = cast(Any, _Normalise.apply)
    normalised, mean, variance, count = apply(
        features, valid, weights, layer.weight, layer.bias, epsilon, layer.shared_statistics
    )
    with torch.no_grad():
        unbiased = variance * (count / (count - 1).clamp(min=_TINY))
        share = momentum * (count > 0).to(count.dtype)  # a batch of nothing moves nothing
        for name, value in (("running_mean", mean), ("running_var", unbiased)):
            target = cast(Tensor, getattr(layer, name))
            target.lerp_(value.to(target.dtype), share.to(target.dtype))
    return normalised


class _Normalise(torch.autograd.Function):
    """(x - mean) / std * weight + bias; its gradient knows what x does to mean and std."""

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
        own = _moments(wide, valid, weights)
        count, mean, variance = _joined(own[None] if not shared else _of_all_processes(own))
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
            known = (None, None, mean, scale, True, 0.0)
            grads = torch.ops.aten.native_batch_norm_backward(
                grad_outputs[0], features, weight, *known, needed
            )
            return grads[0], None, None, grads[1], grads[2], None, None
        gradient = grad_outputs[0].to(mean.dtype)
        normalised = (features.to(mean.dtype) - _beside(mean, features)) * _beside(scale, features)
        own = torch.stack([_sums(gradient), _sums(gradient * normalised)])
        joined = own.clone()
        if ctx.shared:
            dist.all_reduce(joined)
        shift, slope = joined / count.clamp(min=_TINY).to(joined.dtype)
        pull = normalised.mul_(_beside(slope, features)).add_(_beside(shift, features))
        if valid is not None:
            pull = pull * valid
        if weights is not None:
            pull = pull * weights.reshape(-1, *[1] * (features.dim() - 1))
        gain = scale if weight is None else scale * weight
        result = (gradient - pull).mul_(_beside(gain, features)).to(features.dtype)
        shares = (None, None) if weight is None else (own[1], own[0])  # DDP adds up the processes'
        return result, None, None, *shares, None, None


def _moments(wide: Tensor, valid: Tensor | None, weights: Tensor | None) -> Tensor:
    """Return this process's count, means and sums of squares about them, in float64.

    Each sample's are computed by themselves, about its own mean, so that nothing cancels.
    """
    if wide.dim() == 2:
        wide = wide[..., None]
    places = list(range(2, wide.dim()))
    if valid is None:
        counts = wide.new_full((len(wide), 1), wide[0, 0].numel(), dtype=torch.float64)
        means = wide.mean(places)
        squares = (wide - means.reshape(*means.shape, *[1] * len(places))).square_().sum(places)
    else:
        mask = valid.to(wide.dtype)
        counts = mask.sum(places)
        means = (wide * mask).sum(places) / counts.clamp(min=1)
        apart = wide - means.reshape(*means.shape, *[1] * len(places))
        squares = (apart.square_() * mask).sum(places)
        counts = counts.double()
    means, squares = means.double(), squares.double()
    if weights is not None:
        counts = counts * weights[:, None]
        squares = squares * weights[:, None]
    count, mean, squares = _added(counts, means, squares)
    return torch.cat([count, mean, squares])


def _added(counts: Tensor, means: Tensor, squares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Join moments about several means into those about one (Chan et al.)."""
    count = counts.sum(0)
    mean = (counts * means).sum(0) / count.clamp(min=_TINY)
    return count, mean, (squares + counts * (means - mean).square()).sum(0)


def _of_all_processes(own: Tensor) -> Tensor:
    shares = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(shares, own)
    return torch.stack(shares)


def _joined(shares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return count, mean and variance of the shares, each a row of moments."""
    dim = shares.shape[1] // 2
    count, mean, squares = _added(*shares.split([1, dim, dim], dim=1))
    return count[0], mean, squares / count.clamp(min=_TINY)


def _sums(values: Tensor) -> Tensor:
    return values.sum(dim=[dim for dim in range(values.dim()) if dim != 1])


def _beside(channels: Tensor, values: Tensor) -> Tensor:
    return channels.reshape(1, -1, *[1] * (values.dim() - 2))


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """PyTorch's, but for how the statistics of a training batch are added up.

    On one process it is PyTorch's on a GPU, in half precision, and compiled.

    Attributes:
        shared_statistics: Whether they are of all processes; see `BatchNormSync`.
    """

    shared_statistics: bool = False

    def forward(self, input: Tensor) -> Tensor:
        rounded = input.dtype in (torch.bfloat16, torch.float16)  # there is nothing left to keep
        fast = input.device.type != "cpu" or rounded or torch.compiler.is_compiling()
        batches = self.num_batches_tracked
        if not self.training or batches is None or (fast and not self.shared_statistics):
            return super().forward(input)
        self._check_input_dim(input)
        if not self.shared_statistics and input.numel() == input.shape[1]:
            return super().forward(input)  # says that one value has no variance
        batches.add_(1)
        momentum = self.momentum
        if momentum is None:  # PyTorch: the mean of all batches so far
            momentum = 1.0 / float(batches)
        return normalise(input, None, self, epsilon=self.eps, momentum=momentum)


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """`nn.BatchNorm1d` that does not depend on who shares the batch."""


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """`nn.BatchNorm2d` that does not depend on who shares the batch."""


_OURS: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: BatchNorm1d,
    nn.BatchNorm2d: BatchNorm2d,
}


def replace_batch_norms(model: nn.Module) -> nn.Module:
    """Make the batch norms in a model ours, in place: weights, buffers and names stay."""
    for module in model.modules():
        if type(module) in _OURS:
            module.__class__ = _OURS[type(module)]
    return model


class BatchNormSync(LayerSync):
    """Has the batch norms of a model take the statistics of all processes while it is fitted.

    A layer with an attribute `shared_statistics` is told by it; others become ours, in place. On
    one process nothing changes.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Join the statistics."""
        if dist.get_world_size() == 1:
            return model
        return _share(replace_batch_norms(model), True)

    def revert(self, model: nn.Module) -> nn.Module:
        """Part them again."""
        return _share(model, False)


def _share(model: nn.Module, shared: bool) -> nn.Module:
    for module in model.modules():
        if hasattr(module, "shared_statistics"):
            setattr(module, "shared_statistics", shared)  # noqa: B010 -- nn.Module's types
    return model
