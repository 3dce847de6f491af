"""Start the ranks of a run on this machine, and end them together.

`torch.distributed.elastic` starts and watches them. Each rank is `tireid train` again; config,
metrics and messages go through a temporary folder.
"""

import importlib
import json
import logging
import os
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage] -- documented there
from torch.distributed.elastic.multiprocessing import (
    DefaultLogsSpecs,
    PContext,
    RunProcsResult,
    SignalException,
    Std,
    start_processes,
)

from tireid.checkpoints import stop_signals
from tireid.console import show_warnings_in_one_line
from tireid.files import available_cores
from tireid.training.command import record_command
from tireid.training.errors import clear_message
from tireid.training.processes import FOLDER, PARENT, rank

_GRACE_SECONDS = 20  # for ranks that were asked to stop; SLURM kills after 30
_LOG_LINES = 30
_HOST = "127.0.0.1"
_OF_HYDRA = re.compile(r'(")?(\$\{(?:hydra|now):[^{}]*\})(?(1)")')  # in JSON, also a whole value


def run_in_processes(cfg: DictConfig, count: int) -> dict[str, float]:
    """Train in several processes of this machine.

    Rank 0 writes to the terminal; of the others the last lines are shown if they fail. All of them
    end with any of them, and with this process.

    Args:
        cfg: A composed training config.
        count: Number of processes.

    Returns:
        What the training returned on rank 0.

    Raises:
        ValueError: If a rank found the user's input wrong.
        ChildProcessError: If a rank died or failed otherwise; names it.
        tireid.checkpoints.stop_signals.Stopped: If all stopped because they were asked to.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    stop_signals.listen()
    with tempfile.TemporaryDirectory(prefix="tireid-") as name:
        folder = Path(name)
        (folder / "config.json").write_text(_without_hydra(cfg), encoding="utf-8")
        record_command(folder)
        store = _open_store()
        ranks = _start(count, folder, store.port)
        try:
            result = _wait(ranks)
        finally:
            ranks.close(signal.SIGKILL)
        if result.failures:
            raise _error(result, folder)
        return _report(folder, 0)["metrics"]


def run_as_rank(train: Callable[[DictConfig], dict[str, float]]) -> None:
    """Train as one of the processes of `run_in_processes`, and leave a report for it.

    Args:
        train: The training.
    """
    importlib.import_module("hydra_plugins.tireid_precision")  # as Hydra would: for the config
    show_warnings_in_one_line()
    os.environ.pop("SLURM_NTASKS", None)  # else Lightning believes that srun started this rank
    folder = Path(os.environ[FOLDER])
    report: dict[str, Any] = {}
    try:
        content = (folder / "config.json").read_text(encoding="utf-8")
        report["metrics"] = train(OmegaConf.create(json.loads(content)))  # pyright: ignore[reportArgumentType] -- a mapping
    except stop_signals.Stopped as stopped:
        report["stopped"] = stopped.message
        raise SystemExit(stopped.code) from None
    except Exception as error:
        if isinstance(error, RuntimeError):
            # If it comes from another rank's death, that one is found first, and this one ended.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(2.0)
        report["error"] = clear_message(error)
        if report["error"] is None:
            raise
        raise SystemExit(1) from None
    finally:
        (folder / f"{rank()}.json").write_text(json.dumps(report), encoding="utf-8")


def _without_hydra(cfg: DictConfig) -> str:
    """Return a config as JSON, in which is resolved what only Hydra's own process can."""

    def resolved(found: re.Match[str]) -> str:
        value = OmegaConf.create({"value": found[2]}, parent=cfg).value
        return json.dumps(value) if found[1] else json.dumps(str(value))[1:-1]

    return _OF_HYDRA.sub(resolved, json.dumps(OmegaConf.to_container(cfg)))


def _open_store() -> TCPStore:
    """Open the store through which ranks find each other, for this machine only.

    A store that a rank opens listens to the whole network, and what is read from it is unpickled.
    """
    listener = socket.create_server((_HOST, 0), backlog=1024)
    port = listener.getsockname()[1]
    return TCPStore(
        _HOST, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
    )


def _start(count: int, folder: Path, port: int) -> PContext:
    package = str(Path(__file__).parents[2])
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    common = {
        FOLDER: str(folder),
        PARENT: str(os.getpid()),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "NODE_RANK": "0",
        "MASTER_ADDR": _HOST,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is there, also for rank 0
        **({"GLOO_SOCKET_IFNAME": loopback[0]} if loopback else {}),
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
        # Together the threads of the ranks are as many as the cores.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")
        or str(max(1, available_cores() // count)),
    }
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        return start_processes(
            name="train",
            entrypoint=sys.executable,
            args=dict.fromkeys(range(count), ("-m", "tireid", "train")),
            envs={n: common | {"RANK": str(n), "LOCAL_RANK": str(n)} for n in range(count)},
            logs_specs=DefaultLogsSpecs(str(folder), dict.fromkeys(range(1, count), Std.ALL)),
        )
    except SignalException:
        raise SystemExit(stop_signals.EXIT_CODE) from None
    finally:  # torch has replaced some; nohup, say, ignores SIGHUP
        for number, handler in handlers.items():
            if signal.getsignal(number) != handler:
                signal.signal(number, handler)


def _wait(ranks: PContext) -> RunProcsResult:
    """Wait until all ranks have ended, by themselves or because this process was asked to stop."""
    try:
        return ranks.wait(period=0.1) or RunProcsResult()
    except (stop_signals.Stopped, KeyboardInterrupt) as stopped:
        ranks.close(signal.SIGTERM, _GRACE_SECONDS)
        result = ranks.wait(0) or RunProcsResult()
        others = [n for n, f in result.failures.items() if f.exitcode != stop_signals.EXIT_CODE]
        if not others:
            return result
        if isinstance(stopped, KeyboardInterrupt):
            raise
        raise stop_signals.Stopped(
            f"stopped: rank {others[0]} wrote no checkpoint within {_GRACE_SECONDS} s, and was "
            "ended; the last checkpoint, if there was one, stands",
            128 + signal.SIGTERM,
        ) from None


def _error(result: RunProcsResult, folder: Path) -> BaseException:
    """Return what to raise for the rank that failed first: the others follow from it."""
    first = min(result.failures.values(), key=lambda failure: failure.timestamp)
    report = _report(folder, first.local_rank)
    if first.exitcode == stop_signals.EXIT_CODE:
        return stop_signals.Stopped(report.get("stopped", "stopped by a signal"))
    if report.get("error"):
        return ValueError(report["error"])
    logs = [result.stdouts[first.local_rank], result.stderrs[first.local_rank]]
    lines = [
        line for log in logs if log for line in Path(log).read_text("utf-8", "replace").splitlines()
    ]
    sys.stderr.writelines(f"{line}\n" for line in lines[-_LOG_LINES:])
    hint = ""
    if first.exitcode < 0:
        reason = f"was killed by {first.signal_name()}"
        if first.exitcode == -signal.SIGKILL:
            hint = "; if the system was out of memory, with a smaller batch_size"
    else:
        reason = f"failed (exit code {first.exitcode})"
    return ChildProcessError(
        f"rank {first.local_rank} of {len(result.stdouts)} processes {reason}; the others were "
        f"stopped. The same command starts the run again{hint}"
    )


def _report(folder: Path, rank: int) -> dict[str, Any]:
    file = folder / f"{rank}.json"
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}
