"""Save and restore the RNG state of every rank, which dropout and augmentation draw from."""

import random
from pathlib import Path
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
    of_python, of_numpy = _decoded(state)
    random.setstate(of_python)
    np.random.set_state(of_numpy)  # noqa: NPY002 -- as above
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def check_rng_states(states: list[dict[str, Any]], file: Path) -> None:
    """Check that states can be restored, by generators that nobody uses.

    Args:
        states: Of each rank, from a checkpoint.
        file: The checkpoint, for messages.

    Raises:
        ValueError: If one cannot.
    """
    for rank, state in enumerate(states):
        try:
            of_python, of_numpy = _decoded(state)
            random.Random().setstate(of_python)  # noqa: S311 -- not for secrets
            np.random.RandomState().set_state(of_numpy)
            torch.Generator().set_state(state["torch"])
        except Exception as error:  # each library raises its own
            raise ValueError(
                f"{file}: generators[{rank}]: expected the state of random generators, got what "
                f"cannot be restored ({type(error).__name__})"
            ) from error


def _decoded(state: dict[str, Any]) -> tuple[Any, Any]:
    """Return the states of Python's and of numpy's generator as they take them."""
    version, internal, gauss = state["python"]
    kind, keys, *position = state["numpy"]
    return (version, tuple(internal), gauss), (kind, keys.numpy().astype(np.uint32), *position)
