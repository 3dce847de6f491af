"""Many runs by one command: each job in a process of its own, and one table at the end.

A job that dies, runs out of memory or leaves its GPU unusable takes nothing with it, and the
processes of a distributed job are started by the command of that job, not by that of the sweep.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from tireid.comparison.compare import print_unfinished
from tireid.comparison.table import columns, print_results
from tireid.files import available_cores
from tireid.runs.failure import FAILURE_FILE, write_failure
from tireid.runs.folder import finished_metrics
from tireid.runs.results import JOBS_FILE, Runs, read_runs, write_csv
from tireid.runs.settings import own_overrides
from tireid.training.checks import check_scalars
from tireid.training.errors import recorded_failure
from tireid.training.processes import PARENT

_SWEEP_VARIABLE = "TIREID_SWEEP_PROCESS"
_BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
_JOBLIB = "hydra_plugins.hydra_joblib_launcher"
_LAUNCHERS = {
    _JOBLIB: "hydra-joblib-launcher",
    "hydra_plugins.hydra_submitit_launcher": "hydra-submitit-launcher",
}
# With it, Lightning takes the tasks that SLURM started for the processes of the run.
_SLURM_TASKS = "SLURM_NTASKS"
_GRACE_SECONDS = 10
_POLL_SECONDS = 2


def is_job() -> bool:
    """Whether Hydra is running this process's task as one job of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def run_job(cfg: DictConfig) -> float | None:
    """Run one job of a sweep, unless its folder holds it complete; say so if it fails.

    Args:
        cfg: The job's composed config.

    Returns:
        The monitored metric; None where there is none, for whatever reason.
    """
    hydra = HydraConfig.get()
    own = own_overrides(list(hydra.overrides.task))
    known = run_in_process(cfg, own, Path(hydra.runtime.output_dir))
    return None if known is None else known.get(cfg.monitor)


def run_in_process(cfg: DictConfig, overrides: list[str], folder: Path) -> dict[str, float] | None:
    """Train in a process of its own, unless the run folder holds the run complete.

    Args:
        cfg: Composed from `conf/train.yaml` and the overrides.
        overrides: The settings of the run, as on a command line.
        folder: The run folder.

    Returns:
        Its metrics in percent; None if it failed or another process is at it.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    known = _known(cfg, folder)
    if known is not None:
        (folder / FAILURE_FILE).unlink(missing_ok=True)
        console.print(f"{folder}: complete already", markup=False)
        return known
    before = _written(folder)
    try:
        with recorded_failure(folder, keep=True):
            _check_one_node(cfg)
            code = _run(_command(overrides, folder))
        if code and _written(folder) == before:
            write_failure(folder, "ProcessEnded", f"the run's process ended with {_said(code)}")
    except (ValueError, OSError) as error:
        console.print(f"error: {error}", style="bold red", markup=False)
        code = 1
    if code:
        said = f"failed: {' '.join(overrides)} ({folder / FAILURE_FILE})"
        console.print(said, style="bold red", markup=False)
    return _known(cfg, folder)


def _known(cfg: DictConfig, folder: Path) -> dict[str, float] | None:
    try:
        check_scalars(cfg)
        settings: Any = OmegaConf.to_container(cfg, resolve=True)
        return finished_metrics(folder, settings)
    except Exception:  # Whatever it is, the run itself says it, and records it.
        return None


def _written(folder: Path) -> int:
    try:
        return (folder / FAILURE_FILE).stat().st_mtime_ns
    except OSError:
        return 0


def _said(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


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
    place = str(folder.absolute()).replace("\\", "\\\\").replace('"', '\\"')
    return [
        *(sys.executable, "-m", "tireid", "train"),
        *(word for path in added for word in ("--config-dir", path)),
        *overrides,
        "skip_finished=true",
        "hydra.mode=RUN",
        f'hydra.run.dir="{place}"',
        "hydra.output_subdir=null",  # the sweep has written it
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
            env=environment | {PARENT: str(os.getpid())},
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
    if not str(launcher._target_).startswith(_JOBLIB):
        return 0
    return launcher.n_jobs if launcher.n_jobs > 0 else available_cores()


def _abandoned() -> bool:
    """Whether this is a worker whose sweep is gone; joblib's would go on with the next job."""
    return os.environ.get(_SWEEP_VARIABLE) not in (None, str(os.getpid()), str(os.getppid()))


@contextmanager
def _as_exit(number: signal.Signals) -> Iterator[None]:
    """Let a signal raise SystemExit, as an interruption does KeyboardInterrupt."""
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
    """Return what a shell says of a process that was asked to end."""
    return 128 - code if code < 0 else code or 128 + signal.SIGTERM


class SweepReport(Callback):
    """Hydra's callback around a sweep: check before, keep the list of jobs, compare at the end.

    It writes `results.csv` and the report into the sweep's folder, and ends the process with exit
    code 1 if a job failed or was not run.
    """

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Refuse what cannot work, in one line; write the jobs into the sweep's folder."""
        try:
            _check_launcher(str(config.hydra.launcher._target_))
            _check_environment()
            jobs = _jobs(config)
        except ValueError as error:
            Console(stderr=True, highlight=False, soft_wrap=True).print(
                f"error: {error}", style="bold red", markup=False
            )
            sys.exit(1)
        os.environ[_SWEEP_VARIABLE] = str(os.getpid())
        if jobs is not None:
            folder = Path(config.hydra.sweep.dir)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / JOBS_FILE).write_text(json.dumps(jobs, indent=1) + "\n", encoding="utf-8")

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the table and what is missing from it."""
        if not conclude(Path(config.hydra.sweep.dir)):
            sys.exit(1)


def conclude(folder: Path) -> bool:
    """Compare the runs of a sweep, and return whether all is well: none failed, none is missing.

    A run that another process is at is left to it.
    """
    console = Console(highlight=False, soft_wrap=True)
    runs = read_runs(folder, must_exist=False)
    if runs.complete:
        print_results(runs.complete)
        write_csv(runs.complete, folder / "results.csv", columns())
        written = ["results.csv", *_report(console, runs, folder)]
        console.print(f"{folder}: {', '.join(written)}", markup=False)
    print_unfinished(runs.unfinished)
    console.print(_summary(runs), style="bold red" if runs.count("failed") else "bold")
    return not any(run.state != "running" for run in runs.unfinished)


def _report(console: Console, runs: Runs, folder: Path) -> list[str]:
    """Write the page; one that fails takes nothing of the sweep with it."""
    from tireid.comparison.report import (  # late: the jobs need none of it
        load_comparison,
        write_report,
    )

    command = shlex.join(["python", "-m", "tireid", "train", *sys.argv[1:]])
    try:
        written = write_report(load_comparison({folder: runs}), folder, command=command)
    except Exception as error:
        said = f"the report was not written: {type(error).__name__}: {error}"
        again = f"make compare RUNS={folder} tries again"
        console.print(f"{said}; {again}", style="yellow", markup=False)
        return []
    return [path.name for path in written]


def _summary(runs: Runs) -> str:
    done, total = len(runs.complete), len(runs.complete) + len(runs.unfinished)
    parts = [f"{done} of {total} runs complete"]
    for state, words in (
        ("failed", "failed"),
        ("running", "being run by another process"),
        ("incomplete", "stopped before its end"),
        ("missing", "not started"),
    ):
        if number := runs.count(state):
            parts.append(f"{number} {words}")
    return ", ".join(parts)


def _check_launcher(target: str) -> None:
    module = target.rsplit(".", 2)[0]
    package = _LAUNCHERS.get(module)
    if package is None or (find_spec(module.partition(".")[0]) and find_spec(module)):
        return
    raise ValueError(
        f"hydra/launcher: expected {package} to be installed; pip install 'tireid[sweep]', or "
        "leave the launcher out: one job after the other"
    )


def _check_environment() -> None:
    for name in ("TORCHELASTIC_RUN_ID", "LOCAL_RANK"):
        if name in os.environ:
            raise ValueError(
                f"expected a sweep to be started as one process, got {name}={os.environ[name]} as "
                "torchrun sets it; start the sweep without torchrun: strategy=ddp starts the "
                "processes of each job"
            )


def _jobs(config: DictConfig) -> list[list[str]] | None:
    """Return the settings of each job of a grid; None for a sweeper that decides as it goes."""
    if config.hydra.sweeper._target_ != _BASIC_SWEEPER:
        return None
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    params = config.hydra.sweeper.params or {}
    words = [f"{name}={value}" for name, value in params.items()]
    words += list(config.hydra.overrides.task)
    parsed = OverridesParser.create().parse_overrides(words)
    return [own_overrides(job) for job in BasicSweeper.split_arguments(parsed, None)[0]]
