"""Join the batches of all processes, so that a loss sees the global batch."""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor


def process_count() -> int:
    """Return how many processes train together; 1 outside a distributed run."""
    if not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size()


class _Gather(torch.autograd.Function):
    """All-gather whose backward sums the gradients of all processes for this process's rows."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        pieces = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(pieces, tensor)  # pyright: ignore[reportUnknownMemberType]  # untyped
        return torch.cat(pieces)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        gradient = grad_outputs[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)  # pyright: ignore[reportUnknownMemberType]  # untyped
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def gather_with_gradient(tensor: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "global_batch ..."]:
    """Concatenate a tensor over the processes, in the order of their ranks.

    When every process computes the loss of the gathered batch and DDP averages the gradients, the
    result is the gradient of one process on the whole batch: no factor of the world size is
    missing, and negatives of other processes are trained too.

    Args:
        tensor: This process's rows, of the same shape and type on every process.

    Returns:
        All rows, or `tensor` itself when there is one process.
    """
    if process_count() == 1:
        return tensor
    apply = cast(Callable[[Tensor], Tensor], _Gather.apply)  # pyright: ignore[reportUnknownMemberType]
    return apply(tensor.contiguous())


def own_rows(gathered: Shaped[Tensor, "global_batch ..."]) -> Shaped[Tensor, "batch ..."]:
    """Return this process's rows of a global batch that all processes hold.

    Random numbers that are drawn for the global batch and cut here do not depend on the number of
    processes.
    """
    if process_count() == 1:
        return gathered
    return gathered.chunk(dist.get_world_size())[dist.get_rank()]


def mean_over_processes(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return the mean of a tensor over the processes, on each of them, without gradient."""
    values = values.detach()
    if process_count() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)  # pyright: ignore[reportUnknownMemberType]  # untyped
    return total / process_count()
