"""Check the variables by which a process may be told that it is one of several."""

import os

_TORCH = {"RANK": 0, "LOCAL_RANK": 0, "GROUP_RANK": 0, "NODE_RANK": 0, "WORLD_SIZE": 1}
_TORCH |= {"LOCAL_WORLD_SIZE": 1, "GROUP_WORLD_SIZE": 1, "MASTER_PORT": 1}
_SLURM = {"SLURM_PROCID": 0, "SLURM_LOCALID": 0, "SLURM_NODEID": 0, "SLURM_JOB_ID": 0}
_SLURM |= {"SLURM_NTASKS": 1, "SLURM_NTASKS_PER_NODE": 1, "SLURM_NNODES": 1}
# The smallest value of each.
_FAMILIES: tuple[dict[str, int], ...] = (_TORCH, _SLURM, {"JSM_NAMESPACE_RANK": 0})
_UNBOUNDED = 10**20
_LARGEST = {"MASTER_PORT": 2**16 - 1}
_BELOW = {"RANK": "WORLD_SIZE", "LOCAL_RANK": "LOCAL_WORLD_SIZE", "SLURM_PROCID": "SLURM_NTASKS"}


def check_variables() -> None:
    """Check them before Lightning is imported, which reads some of them as numbers.

    Raises:
        ValueError: Names the variable, its value, and how to run without it.
    """
    for family in _FAMILIES:
        given = {name: os.environ[name] for name in family if name in os.environ}
        for name, value in given.items():
            largest = _LARGEST.get(name, _UNBOUNDED)
            fits = value.strip().isdecimal() and family[name] <= int(value[:20]) <= largest
            expected = f"a whole number from {family[name]}"
            expected += f" to {largest}" if name in _LARGEST else ""
            if fits and _BELOW.get(name) in given:
                size = given[_BELOW[name]]
                expected = f"a whole number below {_BELOW[name]}={size}"
                fits = not size.strip().isdecimal() or int(value) < max(int(size), 1)
            if not fits:
                raise ValueError(
                    f"{name}: expected {expected} in the environment, got {value!r}; to run in "
                    f"this process alone, type: unset {' '.join(given)}"
                )
