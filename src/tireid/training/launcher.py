"""Start the processes of a run on this machine, and watch them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator, MPSAccelerator
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from tireid.checkpoints.stop_signals import EXIT_CODE
from tireid.data.samplers import check_batch_size
from tireid.training.processes import FOLDER, cores, rank, world_size

_ASKING = ("SIGTERM", "SIGUSR1")  # what batch systems send


_GRACE_SECONDS = 25.0  # for processes that were asked to stop; SLURM kills after 30


_KEPT_LINES = 30


def processes_to_start(cfg: DictConfig) -> int:
    """Return how many processes a command has to start for a run; 1: it is the run.

    Args:
        cfg: A composed training config.

    Raises:
        ValueError: If the strategy does not fit how this process was started, or the global batch
            cannot be shared evenly.
    """
    devices, nodes = cfg.strategy.devices, cfg.strategy.num_nodes
    if cfg.trainer.accelerator == "gpu" and not (
        CUDAAccelerator.is_available() or MPSAccelerator.is_available()
    ):
        raise ValueError(
            "trainer.accelerator: expected a GPU, as trainer=gpu asks for, got none that torch "
            "finds on this machine; set trainer=auto, or trainer=cpu with strategy=ddp_cpu for "
            "several processes"
        )
    if devices is None or nodes is None:
        raise ValueError(
            "strategy.devices: expected the number that torchrun (strategy=torchrun) or srun with "
            "--ntasks-per-node (strategy=slurm) tells, got none; start with one of them, or choose "
            "strategy=ddp"
        )
    here = _count_devices(cfg)
    check_batch_size(cfg.batch_size, here * nodes)
    if world_size() > 1 or FOLDER in os.environ:
        if world_size() != here * nodes:
            raise ValueError(
                f"strategy: expected the {world_size()} processes that were started, got "
                f"{here} devices on {nodes} nodes; set strategy=torchrun or strategy=slurm"
            )
        return 1
    if nodes > 1:
        raise ValueError(
            f"strategy.num_nodes: expected 1, got {nodes}; several nodes are started by torchrun "
            "(strategy=torchrun) or srun (strategy=slurm)"
        )
    return here


def _count_devices(cfg: DictConfig) -> int:
    devices: Any = cfg.strategy.devices
    if isinstance(devices, int) and devices > 0:
        return devices
    if OmegaConf.is_config(devices):
        devices = OmegaConf.to_container(devices)
    trainer = L.Trainer(
        accelerator=cfg.trainer.accelerator,
        devices=devices,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    if isinstance(trainer.accelerator, CPUAccelerator) and devices == "auto":
        warnings.warn(
            "strategy.devices=auto: no GPU is used, and on a CPU that is one process; "
            "strategy=ddp_cpu starts two, strategy.devices=N starts N",
            stacklevel=2,
        )
    return trainer.num_devices


def run_in_processes(cfg: DictConfig, count: int) -> dict[str, float]:
    """Run a training in processes of this machine and wait for them.

    The first one speaks to the terminal; the others are heard when they fail. All of them end with
    any of them, and with this one.

    Args:
        cfg: A composed training config; the run folder is settled by it.
        count: Number of processes.

    Returns:
        What the training returned on the first process.

    Raises:
        ValueError: If the training found the user's input wrong.
        ChildProcessError: If a process died or failed otherwise; names it.
        SystemExit: With `stop_signals.EXIT_CODE`, if all stopped because they were asked to.
    """
    with tempfile.TemporaryDirectory(prefix="tireid-") as name:
        folder = Path(name)
        (folder / "config.yaml").write_text(OmegaConf.to_yaml(_settled(cfg)), encoding="utf-8")
        port = _free_port()
        processes = [_start(number, count, port, folder) for number in range(count)]
        try:
            failed = _watch(processes)
        finally:
            _end(processes, signal.SIGKILL)
        if failed is None:
            return json.loads((folder / "0.json").read_text(encoding="utf-8"))["metrics"]
        raise _failure(failed, processes[failed].returncode, count, folder)


def serve(
    train: Callable[[DictConfig], dict[str, float]],
    message_of: Callable[[Exception], str | None],
) -> None:
    """Be one of the processes of `run_in_processes`: train, report, exit.

    Args:
        train: The training.
        message_of: All that is to be said of an error; None where its traceback is needed.
    """
    threading.Thread(target=_end_with_starter, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that started this one passes it on
    folder = Path(os.environ[FOLDER])
    report: dict[str, Any] = {}
    try:
        report["metrics"] = train(OmegaConf.load(folder / "config.yaml"))  # pyright: ignore[reportArgumentType] -- a mapping
    except Exception as error:
        if isinstance(error, RuntimeError):
            time.sleep(2.0)  # if another process died, this one is ended here
        message = message_of(error)
        if message is None:
            raise
        report["error"] = message
        raise SystemExit(1) from None
    finally:
        (folder / f"{rank()}.json").write_text(json.dumps(report), encoding="utf-8")


def _settled(cfg: DictConfig) -> DictConfig:
    """Return a config without what only Hydra's own process can resolve, such as the run folder."""
    settled = OmegaConf.create(OmegaConf.to_container(cfg))
    for key, value in _leaves(OmegaConf.to_container(cfg)):
        if isinstance(value, str) and ("${hydra:" in value or "${now:" in value):
            OmegaConf.update(settled, key, OmegaConf.select(cfg, key))
    return settled  # pyright: ignore[reportReturnType] -- a mapping


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict | list):
        for name, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _leaves(child, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, node


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _start(number: int, count: int, port: int, folder: Path) -> subprocess.Popen[bytes]:
    package = str(Path(__file__).parents[2])
    environment = os.environ | {
        FOLDER: str(folder),
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "NODE_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
    }
    # Together the processes' threads are as many as the cores.
    environment.setdefault("OMP_NUM_THREADS", str(max(1, cores() // count)))
    environment.pop("SLURM_NTASKS", None)  # else Lightning takes srun for the one that started them
    with contextlib.ExitStack() as files:
        output = None
        if number:
            output = files.enter_context((folder / f"{number}.log").open("wb"))
        return subprocess.Popen(
            [sys.executable, "-m", "tireid", "train"],
            env=environment,
            stdin=subprocess.PIPE,  # its end tells that this process is gone
            stdout=output,
            stderr=output,
        )


def _end_with_starter() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


class _Asked(BaseException):
    """Somebody asked this process to stop."""


def _watch(processes: list[subprocess.Popen[bytes]]) -> int | None:
    """Wait until all ended well, or one did not; return which.

    Raises:
        SystemExit: If this process was asked to stop, and had the others stop.
    """

    def ask(*_: Any) -> None:
        for number in asking:
            signal.signal(number, signal.SIG_IGN)
        raise _Asked

    in_main = threading.current_thread() is threading.main_thread()
    asking = [number for name in _ASKING if in_main and (number := getattr(signal, name, None))]
    before = {number: signal.signal(number, ask) for number in asking}
    try:
        return _first_failure(processes)
    except (_Asked, KeyboardInterrupt) as asked:
        _end(processes, signal.SIGTERM, _GRACE_SECONDS)
        codes = {process.returncode for process in processes}
        if codes == {0}:
            return None
        if codes <= {0, EXIT_CODE}:
            raise SystemExit(EXIT_CODE) from None
        if isinstance(asked, KeyboardInterrupt):
            raise
        raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _first_failure(processes: list[subprocess.Popen[bytes]]) -> int | None:
    patience = float("inf")
    while True:
        codes = [process.poll() for process in processes]
        failed = [number for number, code in enumerate(codes) if code]
        # A killed one is the cause, or one that was asked to stop; others fail when they lose
        # contact with it, or wait for it.
        failed.sort(key=lambda number: ((codes[number] or 0) > 0, codes[number] != EXIT_CODE))
        if failed and codes[failed[0]] != EXIT_CODE:
            return failed[0]
        if failed:
            patience = min(patience, time.monotonic() + _GRACE_SECONDS)
        if None not in codes or time.monotonic() > patience:
            return failed[0] if failed else None
        time.sleep(0.1)


def _end(processes: list[subprocess.Popen[bytes]], how: int, seconds: float = 0.0) -> None:
    """Send a signal to those that still run, wait so long, kill what is left."""
    deadline = time.monotonic() + seconds
    for process in processes:
        if process.poll() is None:
            process.send_signal(how)
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _failure(number: int, code: int, count: int, folder: Path) -> BaseException:
    """Return what to raise for a process that failed, after showing what it said."""
    if code == EXIT_CODE:
        return SystemExit(EXIT_CODE)
    report = folder / f"{number}.json"
    if report.is_file() and "error" in (told := json.loads(report.read_text(encoding="utf-8"))):
        return ValueError(told["error"])
    log = folder / f"{number}.log"
    if log.is_file():
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_KEPT_LINES:]
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            *lines, sep="\n", markup=False, style="dim"
        )
    how = (
        f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed (exit code {code})"
    )
    return ChildProcessError(
        f"rank {number} of {count} processes {how}; the others were stopped. The same command "
        "starts the run again"
    )
