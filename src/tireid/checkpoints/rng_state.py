"""The state of the global random generators, which dropout draws from, on every process."""

import random
from typing import Any

import numpy as np
import torch


def generator_states(device: torch.device) -> list[dict[str, Any]]:
    """Return the states on each process, by rank, as tensors and plain values.

    Args:
        device: Of this process.
    """
    kind, keys, *position = np.random.get_state(legacy=True)  # noqa: NPY002 -- the global one is meant
    own: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *position),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(device)
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return [own]
    states: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(states, own)
    return states


def set_generator_states(states: list[dict[str, Any]], rank: int, device: torch.device) -> None:
    """Put this process's generators into the state that it had.

    Args:
        states: Of all processes; one that had none is left as it is seeded.
        rank: Of this process.
        device: Of this process.
    """
    if rank >= len(states):
        return
    own = states[rank]
    version, internal, gauss = own["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *position = own["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *position))  # noqa: NPY002
    torch.set_rng_state(own["torch"])
    if device.type == "cuda" and "cuda" in own:
        torch.cuda.set_rng_state(own["cuda"], device)
