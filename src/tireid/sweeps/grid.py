"""Run each job of a sweep in a process of its own.

A job that dies, runs out of memory or leaves its GPU unusable does not affect the others, and the
processes of a distributed job are started by that job, not by the sweep.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from tireid.console import complain, say
from tireid.files import available_cores
from tireid.runs.failure import FAILURE_FILE, write_failure
from tireid.runs.folder import finished_metrics
from tireid.runs.settings import CONFIG_FILE, own_overrides
from tireid.sweeps.overrides import override_text
from tireid.training.checks import check_scalars
from tireid.training.command import RECORDED, record_command
from tireid.training.errors import recorded_failure
from tireid.training.processes import PARENT

SWEEP_VARIABLE = "TIREID_SWEEP_PROCESS"
JOBLIB = "hydra_plugins.hydra_joblib_launcher"
# With it, Lightning takes the tasks that SLURM started for the processes of the run.
_SLURM_TASKS = "SLURM_NTASKS"
_GRACE_SECONDS = 10
_POLL_SECONDS = 2


def is_job() -> bool:
    """Return whether Hydra runs the task of this process as one job of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def run_job(cfg: DictConfig) -> float | None:
    """Run one job of a sweep, unless its folder holds the complete run; report a failure.

    Args:
        cfg: The composed config of the job.

    Returns:
        The monitored metric; None if the job has none, for whatever reason.
    """
    hydra = HydraConfig.get()
    overrides, folder = own_overrides(list(hydra.overrides.task)), Path(hydra.runtime.output_dir)
    if cfg.ckpt_path is None or not (folder / CONFIG_FILE).is_file():  # else another run's is kept
        record_command(folder)
    metrics = run_in_process(cfg, overrides, folder)
    return None if metrics is None else metrics.get(cfg.monitor)


def run_in_process(cfg: DictConfig, overrides: list[str], folder: Path) -> dict[str, float] | None:
    """Train in a process of its own, unless the run folder holds the complete run.

    Args:
        cfg: The config composed from `conf/train.yaml` and the overrides.
        overrides: The overrides of the run, as on a command line.
        folder: The run folder.

    Returns:
        The metrics in percent; None if the run failed or another process holds its folder.
    """
    metrics = _complete_metrics(cfg, folder)
    if metrics is not None:
        (folder / FAILURE_FILE).unlink(missing_ok=True)
        say(f"{folder}: complete already", to_stderr=True)
        return metrics
    before = _failure_time(folder)
    try:
        with recorded_failure(folder, keep=True):
            _check_one_node(cfg)
            code = _run(_command(overrides, folder))
        if code and _failure_time(folder) == before:
            ending = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            write_failure(folder, "ProcessEnded", f"the run's process ended with {ending}")
    except (ValueError, OSError) as error:
        complain(str(error))
        code = 1
    if code:
        complain(f"failed: {' '.join(overrides)} ({folder / FAILURE_FILE})")
    return _complete_metrics(cfg, folder)


def _complete_metrics(cfg: DictConfig, folder: Path) -> dict[str, float] | None:
    try:
        check_scalars(cfg)
        settings: Any = OmegaConf.to_container(cfg, resolve=True)
        return finished_metrics(folder, settings)
    except Exception:  # The run itself raises it again, and records it.
        return None


def _failure_time(folder: Path) -> int:
    try:
        return (folder / FAILURE_FILE).stat().st_mtime_ns
    except OSError:
        return 0


def _check_one_node(cfg: DictConfig) -> None:
    nodes = OmegaConf.select(cfg, "strategy.num_nodes", default=1)
    if nodes != 1:
        raise ValueError(
            f"strategy.num_nodes: expected 1 in a sweep, whose jobs start their processes on one "
            f"machine, got {nodes}; start runs on many nodes one by one, or let a launcher spread "
            "one-node jobs over them (hydra/launcher=slurm)"
        )


def _command(overrides: list[str], folder: Path) -> list[str]:
    hydra = HydraConfig.get()
    added = [s.path for s in hydra.runtime.config_sources if s.provider == "command-line"]
    return [
        *(sys.executable, "-m", "tireid", "train"),
        *(word for path in added for word in ("--config-dir", path)),
        *overrides,
        "skip_finished=true",
        "hydra.mode=RUN",
        f"hydra.run.dir={override_text(str(folder.absolute()))}",
    ]


def _run(command: list[str]) -> int:
    """Run a command to its end; a signal to this process goes to it too, and ends both.

    It also ends when this process is killed: see `processes.exit_with_parent`.
    """
    hydra = HydraConfig.get()
    environment = {name: v for name, v in os.environ.items() if name != _SLURM_TASKS}
    if jobs := _jobs_at_once(hydra.launcher):
        if _abandoned():
            raise SystemExit
        environment.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // jobs)))
    with (
        subprocess.Popen(  # noqa: S603 -- our own module
            command,
            env=environment | {PARENT: str(os.getpid()), RECORDED: "true"},
            cwd=hydra.runtime.cwd,
            stdin=subprocess.DEVNULL,
        ) as process,
        _as_exit(signal.SIGTERM),
    ):
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_SECONDS)
                if jobs and _abandoned():
                    raise SystemExit
            return process.returncode
        except SystemExit:
            process.terminate()
            sys.exit(_exit_code(process.wait()))
        except KeyboardInterrupt:  # from a keyboard it has reached the process too
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_SECONDS)
            process.terminate()
            process.wait()
            raise


def _jobs_at_once(launcher: Any) -> int:
    """Return how many jobs a launcher runs at once on this machine; 0: it is none of that kind."""
    if not str(launcher._target_).startswith(JOBLIB):
        return 0
    return launcher.n_jobs if launcher.n_jobs > 0 else available_cores()


def _abandoned() -> bool:
    """Return whether the sweep of this worker is gone; joblib's would go on with the next job."""
    return os.environ.get(SWEEP_VARIABLE) not in (None, str(os.getpid()), str(os.getppid()))


@contextmanager
def _as_exit(number: signal.Signals) -> Iterator[None]:
    """Let a signal raise SystemExit, as Ctrl-C raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise SystemExit

    previous = signal.signal(number, stop)
    try:
        yield
    finally:
        signal.signal(number, previous)


def _exit_code(code: int) -> int:
    """Return the exit code, as shells give it, of a process that was asked to end."""
    return 128 - code if code < 0 else code or 128 + signal.SIGTERM
