"""Rank, world size and decisions that all processes of a run share."""

import contextlib
import datetime
import json
import os
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch.distributed.rendezvous import rendezvous

# Names the default run folder; equal on all processes.
START = "TIREID_START"


# Folder in which a command and the processes it started leave messages for each other.
FOLDER = "TIREID_PROCESSES"


_LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Timed out waiting",
    "got 0 bytes",
    "NCCL",
)


_store: Any = None  # common to the run's processes; None where there is one


_joined: tuple[int, int] | None = None  # rank and number; Lightning changes the environment


_decisions = 0


def rank() -> int:
    """Return the number of this process in its run, by its environment."""
    if _joined is not None:
        return _joined[0]
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ and world_size() > 1:
            return int(os.environ[name])
    return 0


def world_size() -> int:
    """Return the number of processes that were started together with this one."""
    if _joined is not None:
        return _joined[1]
    if "RANK" in os.environ:
        return int(os.environ.get("WORLD_SIZE", "1"))
    # An sbatch script itself is no step, and in an interactive shell all run in its one.
    if "SLURM_STEP_ID" in os.environ and SLURMEnvironment.job_name() not in ("bash", "interactive"):
        return int(os.environ.get("SLURM_NTASKS", "1"))
    return 1


def join() -> None:
    """Find the other processes of the run, if this one was started as one of several.

    To be called before Hydra makes the run folder: the default name holds the time, and is that of
    the first process; or the SLURM job's, so that a requeued job finds its folder again.
    """
    global _store, _joined
    if world_size() == 1:  # whatever is left over in the shell, and Lightning would believe
        rank_zero_only.rank = 0  # pyright: ignore[reportFunctionMemberAccess] -- Lightning sets it too
        for name in ("RANK", "LOCAL_RANK"):
            os.environ.pop(name, None)
    if world_size() == 1 or _store is not None:
        return
    _joined = rank(), world_size()
    limit = datetime.timedelta(minutes=10)
    if "RANK" in os.environ:
        _store = next(rendezvous("env://", timeout=limit))[0]
    else:
        slurm = SLURMEnvironment()
        address = f"tcp://{slurm.main_address}:{slurm.main_port}"
        _store = next(rendezvous(address, rank(), world_size(), timeout=limit))[0]
    if not is_started():
        # torchrun's store outlives the processes: those that it starts again find their folder.
        os.environ[START] = _store.compare_set("tireid/start", "", _name_of_start()).decode()
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        _store = dist.PrefixStore(attempt, _store)  # pyright: ignore[reportPrivateImportUsage] -- documented there
        threads = cores() // int(os.environ.get("LOCAL_WORLD_SIZE", _tasks_of_node()))
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, threads))


def _name_of_start() -> str:
    if START in os.environ:
        return os.environ[START]
    if "RANK" in os.environ:
        return f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    step = os.environ.get("SLURM_STEP_ID", "0")
    return f"job{os.environ['SLURM_JOB_ID']}" + (f"-{step}" if step != "0" else "")


def _tasks_of_node() -> str:
    return os.environ.get("SLURM_NTASKS_PER_NODE", "1")


def agreed(decide: Callable[[], Any]) -> Any:
    """Return on all processes what the first one decides, however long it takes.

    All processes must call it in the same order; it needs no process group.

    Args:
        decide: Called on the first process only; returns plain values.
    """
    global _decisions
    if _store is None:
        return decide()
    key = f"tireid/decision/{_decisions}"
    _decisions += 1
    if rank() == 0:
        value = decide()
        _store.set(key, json.dumps(value))
        return value
    while True:  # if the first one dies, the store does too
        with contextlib.suppress(dist.DistStoreError):
            _store.wait([key], datetime.timedelta(seconds=60))
            return json.loads(_store.get(key))


def is_first_to_say(message: str) -> bool:
    """Return whether none of the run's processes has said this before."""
    try:
        return _store is None or _store.add(f"tireid/said/{message}", 1) == 1
    except RuntimeError:  # the process that keeps the store is gone
        return True


def lost_contact(error: BaseException) -> str | None:
    """Return what to say of an error that comes from another process's death or silence.

    None if it is another error. Neither gloo nor NCCL knows which process it was: whoever started
    the processes does.
    """
    text = str(error)
    if not isinstance(error, RuntimeError) or not any(sign in text for sign in _LOST):
        return None
    said = text.splitlines()[0].split("This is typically")[0].strip()
    return (
        f"rank {rank()} of {world_size()} processes lost contact with another, which has died or "
        f"hangs ({said})"
    )


def is_started() -> bool:
    """Return whether this process was started by `run_in_processes`."""
    return FOLDER in os.environ


def cores() -> int:
    """Return how many cores this process may use."""
    # A batch system may allow fewer cores than there are; only Linux knows.
    return len(getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0))
