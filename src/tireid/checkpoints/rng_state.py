"""Save and restore the RNG state of every rank, which dropout and augmentation draw from."""

import random
from typing import Any

import numpy as np
import torch
import torch.distributed as dist


def rng_states(device: torch.device) -> list[dict[str, Any]]:
    """Return the state of the global generators of each rank, as tensors and plain values.

    All ranks must call this.

    Args:
        device: The device of this rank.
    """
    kind, keys, *position = np.random.get_state(legacy=True)  # noqa: NPY002 -- the global one is meant
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *position),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if not (dist.is_available() and dist.is_initialized()):
        return [state]
    states: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(states, state)
    return states


def set_rng_states(states: list[dict[str, Any]], rank: int, device: torch.device) -> None:
    """Restore the generators of this rank.

    Args:
        states: What `rng_states` returned; a rank beyond them stays as it is seeded.
        rank: This rank.
        device: The device of this rank.
    """
    if rank >= len(states):
        return
    state = states[rank]
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *position = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *position))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
