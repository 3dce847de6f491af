"""Compute in float32 or better, whatever precision the network ran in."""

from collections.abc import Generator
from contextlib import contextmanager
from functools import reduce

import torch
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
