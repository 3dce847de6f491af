"""Uniform random numbers that depend on a key alone, as one operation of a compiled graph."""

import torch
from jaxtyping import Float
from torch import Tensor


@torch.library.custom_op("tireid::keyed_uniform", mutates_args=())
def _keyed_uniform(
    key: int, number: int, rows: int, columns: int, device: torch.device
) -> torch.Tensor:
    generator = torch.Generator(device=device)
    generator.manual_seed(key)
    draws = [torch.rand(rows, columns, generator=generator, device=device) for _ in range(number)]
    return torch.stack(draws)


@_keyed_uniform.register_fake  # pyright: ignore[reportUnknownMemberType] -- untyped
def _(key: int, number: int, rows: int, columns: int, device: torch.device) -> torch.Tensor:
    return torch.empty(number, rows, columns, device=device)


def keyed_uniform(
    seed: int, draw: int, *, number: int, rows: int, columns: int, device: torch.device
) -> Float[Tensor, "number rows columns"]:
    """Draw matrices of uniform numbers in [0, 1) by a generator of their own.

    A run that resumes draws as if it had never stopped, and processes on equal devices draw alike.

    Args:
        seed: Seed of the run.
        draw: Number of the draw, different for every call of a run.
        number: Matrices, drawn one after the other.
        rows: Rows of each.
        columns: Columns of each.
        device: Where they are drawn; the numbers differ between kinds of devices.

    Example:
        >>> draws = keyed_uniform(1, 5, number=2, rows=3, columns=4, device=torch.device("cpu"))
        >>> draws.shape
        torch.Size([2, 3, 4])
    """
    return _keyed_uniform(seed * 1_000_003 + draw, number, rows, columns, device)
