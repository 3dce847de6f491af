"""Rank, world size, and decisions of rank 0 that all processes of a run share."""

import contextlib
import ctypes
import datetime
import itertools
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch.distributed.rendezvous import rendezvous

from tireid.console import say
from tireid.files import available_cores

# Names the default run folder; equal on all processes.
START = "TIREID_START"

# Folder through which `launcher` and the ranks that it started exchange files.
FOLDER = "TIREID_PROCESSES"

# Process id of the command that this process must not outlive.
PARENT = "TIREID_PARENT"

_LIMIT = datetime.timedelta(minutes=10)  # of the wait for the other processes to start
_SILENT_SECONDS = 5.0
_REPORT_SECONDS = 2.0
_ALONE = "to train in this process alone, end it and type: unset RANK WORLD_SIZE"
_PR_SET_PDEATHSIG = 1  # of Linux' prctl

_SIGNS_OF_LOST_CONTACT = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Timed out waiting",
    "got 0 bytes",
    "NCCL",
)


class _Group:
    """The processes of this run, which share a key-value store."""

    def __init__(self, rank: int, world_size: int, store: Any) -> None:
        self.rank = rank  # kept here: Lightning changes the environment
        self.world_size = world_size
        self.store = store
        self.decisions = itertools.count()


_group: _Group | None = None  # None in a run of one process


def rank() -> int:
    """Return the rank of this process in its run."""
    if _group is not None:
        return _group.rank
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ and world_size() > 1:
            return int(os.environ[name])
    return 0


def world_size() -> int:
    """Return the number of processes that were started together with this one."""
    if _group is not None:
        return _group.world_size
    if "RANK" in os.environ:
        return int(os.environ.get("WORLD_SIZE", "1"))
    # An sbatch script itself is no step, and in an interactive shell all run in its one.
    if "SLURM_STEP_ID" in os.environ and SLURMEnvironment.job_name() not in ("bash", "interactive"):
        return int(os.environ.get("SLURM_NTASKS", "1"))
    return 1


def join() -> None:
    """Connect to the other processes of the run, if this one was started as one of several.

    Call it before Hydra makes the run folder: the default name holds the time, and must be that of
    rank 0; or the SLURM job's, so that a requeued job finds its folder again.
    """
    global _group
    if world_size() == 1:  # Lightning would believe a rank that is left over in the shell
        rank_zero_only.rank = 0  # pyright: ignore[reportFunctionMemberAccess] -- Lightning sets it too
        for name in ("RANK", "LOCAL_RANK"):
            os.environ.pop(name, None)
        return
    if _group is None:
        with contextlib.nullcontext() if is_started() else _announced():
            _group = _Group(rank(), world_size(), _connect())


@contextlib.contextmanager
def _announced() -> Iterator[None]:
    """Say whom a process waits for if that takes long; Ctrl-C ends the wait, which is not Python's.

    Variables that are left over in the environment make a process one of several that nobody
    starts.

    Raises:
        ConnectionError: If the others are not there; says what to do.
    """
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    variables = " ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ)
    awaited = (
        f"rank {rank()} waits for the other {world_size() - 1} of {world_size()} processes, as the "
        f"environment says ({variables or 'SLURM'})"
    )
    line = f"{awaited}, {_LIMIT.seconds // 60} minutes at most; {_ALONE}"
    timer = threading.Timer(_SILENT_SECONDS, say, (line,), {"to_stderr": True})
    timer.daemon = True
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL) if in_main else None
    timer.start()
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise ConnectionError(f"{awaited}: {str(error).splitlines()[0]}; {_ALONE}") from error
    finally:
        timer.cancel()
        if in_main:
            signal.signal(signal.SIGINT, handler)


def _connect() -> Any:
    if "RANK" in os.environ:
        store = next(rendezvous("env://", timeout=_LIMIT))[0]
    else:
        slurm = SLURMEnvironment()
        address = f"tcp://{slurm.main_address}:{slurm.main_port}"
        store = next(rendezvous(address, rank(), world_size(), timeout=_LIMIT))[0]
    if is_started():
        return store
    # torchrun's store outlives the processes: those that it starts again find their folder.
    os.environ[START] = store.compare_set("tireid/start", "", _name_of_start()).decode()
    if "OMP_NUM_THREADS" not in os.environ:
        neighbours = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("SLURM_NTASKS_PER_NODE")
        torch.set_num_threads(max(1, available_cores() // int(neighbours or "1")))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(attempt, store)  # pyright: ignore[reportPrivateImportUsage] -- documented there


def _name_of_start() -> str:
    if START in os.environ:
        return os.environ[START]
    if "RANK" in os.environ:
        return f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    step = os.environ.get("SLURM_STEP_ID", "0")
    return f"job{os.environ['SLURM_JOB_ID']}" + (f"-{step}" if step != "0" else "")


def decide_on_rank_zero(decide: Callable[[], Any]) -> Any:
    """Return on all processes what rank 0 decides, however long it takes.

    All processes must call it in the same order. It needs no process group.

    Args:
        decide: Called on rank 0 only.
    """
    if _group is None:
        return decide()
    key = f"tireid/decision/{next(_group.decisions)}"
    if _group.rank == 0:
        value = decide()
        _group.store.set(key, pickle.dumps(value))
        return value
    while True:  # if rank 0 dies, the store does too, or the launcher ends this process
        with contextlib.suppress(dist.DistStoreError):
            _group.store.wait([key], datetime.timedelta(seconds=60))
            return pickle.loads(_group.store.get(key))  # noqa: S301 -- from rank 0 of this run


def is_first_to_report(message: str) -> bool:
    """Return whether none of the run's processes has reported this message before."""
    return _count_report(message, 1) == 1


def wait_for_reports(message: str) -> None:
    """Keep the processes' store until all have asked whether a message was reported, or some time.

    Else the others, which meet the same error a moment later, would report it again.
    """
    if _group is None or _group.rank != 0:
        return
    end = time.monotonic() + _REPORT_SECONDS
    while _count_report(message, 0) < _group.world_size and time.monotonic() < end:
        time.sleep(0.05)


def _count_report(message: str, more: int) -> int:
    try:
        return 1 if _group is None else _group.store.add(f"tireid/said/{message}", more)
    except RuntimeError:  # the process that keeps the store is gone
        return 1


def lost_contact(error: BaseException) -> str | None:
    """Return the message for an error that comes from another rank's death or silence.

    None if it is another error. Neither gloo nor NCCL knows which rank it was: whoever started
    the processes does.
    """
    text = str(error)
    if not isinstance(error, RuntimeError):
        return None
    if not any(sign in text for sign in _SIGNS_OF_LOST_CONTACT):
        return None
    reason = text.splitlines()[0].split("This is typically")[0].strip()
    return (
        f"rank {rank()} of {world_size()} processes lost contact with another, which has died or "
        f"hangs ({reason})"
    )


def is_started() -> bool:
    """Return whether this process was started by `launcher.run_in_processes`."""
    return FOLDER in os.environ


def shared_folder() -> Path | None:
    """Return the folder that the launcher of this process shares with it; None without one."""
    return Path(os.environ[FOLDER]) if is_started() else None


def leave() -> None:
    """End the process group, whose threads would otherwise abort the process as it exits."""
    if dist.is_initialized():
        dist.destroy_process_group()


def exit_with_parent() -> None:
    """Exit when the command that started this process ends, even if it is killed.

    Otherwise a rank or the job of a sweep would go on alone, and the same command, started again,
    would find the run folder in use. The command names itself in the variable `PARENT`; without it
    this does nothing.
    """
    parent = os.environ.pop(PARENT, None)
    if parent is None or os.name != "posix":  # elsewhere an orphan keeps its parent's id
        return
    _let_the_kernel_watch()

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watcher", daemon=True).start()


def _let_the_kernel_watch() -> None:
    """Have Linux kill this process with its parent: a stopped one cannot watch by itself."""
    with contextlib.suppress(AttributeError, OSError):  # other systems
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
