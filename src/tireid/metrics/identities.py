"""Checks of the identities and arrays that an evaluation is given."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor


def as_tensor(values: Any, name: str) -> Tensor:
    """Return a tensor, or what is one of another library (numpy) or in lists, as a tensor.

    Args:
        values: The numbers.
        name: What they are, for messages.

    Raises:
        ValueError: If they are no real numbers.
    """
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(values).__name__
        raise ValueError(f"expected {name} as a tensor, got {kind}: {error}") from error
    if tensor.is_complex():
        raise ValueError(f"expected {name} of real numbers, got {tensor.dtype}")
    return tensor


def check_identities(
    query_pids: Int[Tensor | np.ndarray, " labels"],
    gallery_pids: Int[Tensor | np.ndarray, " gallery_labels"],
    paired: Int[Tensor | np.ndarray, " pairs"] | None,
    *,
    queries: int,
    gallery: int,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check labels against the sizes of both sides, and return them as int64 tensors.

    Args:
        query_pids: Identity of each query.
        gallery_pids: Identity of each gallery item.
        paired: Gallery index of each query's own image, -1 where it is not in the gallery.
        queries: Number of queries expected.
        gallery: Number of gallery items expected.

    Returns:
        The three in order; `paired` stays None if it was None.

    Raises:
        ValueError: If a side is empty, lengths differ, a type is not an integer, `paired` points
            outside the gallery, or at an image of another identity.
    """
    if not queries or not gallery:
        raise ValueError(
            f"expected at least one query and one gallery item, got {queries} and {gallery}"
        )
    query = _integers(query_pids, "query_pids", queries)
    items = _integers(gallery_pids, "gallery_pids", gallery)
    if paired is None:
        return query, items, None
    own_image = _integers(paired, "paired", queries)
    outside = own_image[(own_image < -1) | (own_image >= gallery)]
    if len(outside):
        raise ValueError(
            f"expected paired to hold gallery indices 0 .. {gallery - 1}, or -1 for an image that "
            f"is not in the gallery, got {len(outside)} others, the first being {int(outside[0])}"
        )
    foreign = int(((own_image >= 0) & (items[own_image] != query.to(items.device))).sum())
    if foreign:
        raise ValueError(
            f"expected each query and its paired image to show one identity, got {foreign} of "
            f"{queries} pairs with two; check that paired indexes this gallery"
        )
    return query, items, own_image


def _integers(values: Any, name: str, length: int) -> Tensor:
    tensor = as_tensor(values, name)
    if tensor.is_floating_point() or tensor.dtype == torch.bool:
        raise ValueError(f"expected {name} to hold integers, got {tensor.dtype}")
    if tensor.shape != (length,):
        raise ValueError(f"expected {name} of shape ({length},), got {tuple(tensor.shape)}")
    return tensor.to(torch.int64)
