"""Compute in float32 or better, whatever precision the network ran in."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import reduce
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor


@contextmanager
def full_precision(*tensors: Tensor) -> Generator[tuple[Tensor, ...], None, None]:
    """Switch autocast off and yield the tensors in one common precision.

    Casting alone is not enough: under autocast the next matrix product would be in half precision
    again.

    Args:
        tensors: Floating-point tensors of one device; gradients flow through the cast.

    Yields:
        The tensors in the widest of their types and float32; float64 stays float64.

    Raises:
        ValueError: If no tensor is given.

    Example:
        >>> half = torch.ones(2, dtype=torch.bfloat16)
        >>> with full_precision(half, torch.ones(2)) as (first, second):
        ...     (first.dtype, second.dtype)
        (torch.float32, torch.float32)
    """
    if not tensors:
        raise ValueError("expected at least one tensor, got none")
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
    with torch.autocast(tensors[0].device.type, enabled=False):
        yield tuple(tensor.to(dtype) for tensor in tensors)


def dot_products(
    rows: Float[Tensor, "rows dim"], columns: Float[Tensor, "columns dim"]
) -> Float[Tensor, "rows columns"]:
    """Return the dot product of each row of one matrix with each row of another.

    Training allows TF32 on GPUs, which keeps ten bits of a factor. Neither these products nor their
    gradients use it.

    Args:
        rows: In float32 or better.
        columns: Of the same type.

    Example:
        >>> dot_products(torch.eye(2), torch.ones(3, 2)).shape
        torch.Size([2, 3])
    """
    if not rows.is_cuda:
        return rows @ columns.mT
    apply = cast(Callable[[Tensor, Tensor], Tensor], _DotProducts.apply)  # pyright: ignore[reportUnknownMemberType]
    return apply(rows, columns)


class _DotProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor) -> Tensor:
        ctx.save_for_backward(rows, columns)
        with _without_tf32():
            return rows @ columns.mT

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None]:
        rows, columns = ctx.saved_tensors
        (gradient,) = grad_outputs
        with _without_tf32():
            return (
                gradient @ columns if ctx.needs_input_grad[0] else None,
                gradient.mT @ rows if ctx.needs_input_grad[1] else None,
            )


@contextmanager
def _without_tf32() -> Generator[None, None, None]:
    previous = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(previous)
