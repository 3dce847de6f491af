"""Check a sweep before its jobs run, list its jobs, and compare its runs at the end."""

import json
import os
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.tireid_rows import job_overrides
from tireid.comparison.table import columns, print_results, print_unfinished
from tireid.console import complain, say
from tireid.files import write_text
from tireid.runs.folder import claim
from tireid.runs.results import JOBS_FILE, Runs, read_jobs, read_runs, write_csv
from tireid.runs.settings import own_overrides
from tireid.sweeps.grid import JOBLIB, SWEEP_VARIABLE

_LAUNCHERS = {
    JOBLIB: "hydra-joblib-launcher",
    "hydra_plugins.hydra_submitit_launcher": "hydra-submitit-launcher",
}


class SweepReport(Callback):
    """A callback of Hydra that checks a sweep before it starts and compares its runs at the end.

    It writes `results.csv` and the report into the sweep's folder, and ends the process with exit
    code 1 if a job failed or was not run.
    """

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Refuse what cannot work in one line; write the list of jobs into the sweep's folder."""
        try:
            _check_launcher(str(config.hydra.launcher._target_))
            _check_environment()
            jobs = job_overrides(config.hydra.sweeper, config.hydra.overrides.task)
            os.environ[SWEEP_VARIABLE] = str(os.getpid())
            if jobs is not None:
                _record_jobs(config.hydra.sweep, [own_overrides(job) for job in jobs])
        except ValueError as error:
            complain(str(error))
            sys.exit(1)
        except OSError as error:
            complain(f"{error}; choose another folder for the sweep (hydra.sweep.dir=FOLDER)")
            sys.exit(1)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the table and the runs that are missing from it."""
        if not conclude(Path(config.hydra.sweep.dir)):
            sys.exit(1)


def conclude(folder: Path) -> bool:
    """Compare the runs of a sweep; return whether none failed and none is missing.

    A run in use by another process counts as neither.
    """
    runs = read_runs(folder, must_exist=False)
    if runs.complete:
        print_results(runs.complete)
        write_csv(runs.complete, folder / "results.csv", columns())
        written = ["results.csv", *_report(runs, folder)]
        say(f"{folder}: {', '.join(written)}")
    print_unfinished(runs.unfinished)
    say(_summary(runs), style="bold red" if runs.count("failed") else "bold")
    return not any(run.state != "running" for run in runs.unfinished)


def _report(runs: Runs, folder: Path) -> list[str]:
    """Write the report; if that fails, warn, and go on."""
    # Late: the jobs need none of it.
    from tireid.comparison.report import load_comparison, write_report

    command = shlex.join(["tireid", "train", *sys.argv[1:]])
    try:
        written = write_report(load_comparison({folder: runs}), folder, command=command)
    except Exception as error:
        say(
            f"the report was not written: {type(error).__name__}: {error}; "
            f"make compare RUNS={folder} tries again",
            style="yellow",
        )
        return []
    return [path.name for path in written]


def _summary(runs: Runs) -> str:
    done, total = len(runs.complete), len(runs.complete) + len(runs.unfinished)
    words = {
        "failed": "failed",
        "running": "being run by another process",
        "incomplete": "stopped before its end",
        "missing": "not started",
        "unreadable": "unreadable",
    }
    counts = [f"{runs.count(state)} {words[state]}" for state in words if runs.count(state)]
    return ", ".join([f"{done} of {total} runs complete", *counts])


def _record_jobs(sweep: DictConfig, jobs: list[list[str]]) -> None:
    """Write the list of jobs, unless they would go into the numbered folders of another sweep.

    Raises:
        ValueError: If the folder holds such a sweep; names the first job that differs.
    """
    folder = Path(sweep.dir)
    is_numbered = "hydra.job.num" in OmegaConf.to_yaml(sweep)  # else the settings name a folder
    with claim(folder, ".jobs.lock", waits=True):
        for number, (old, new) in enumerate(zip(read_jobs(folder), jobs, strict=False)):
            if is_numbered and old != new:
                has, got = (
                    " ".join(word for word in one if word not in other) or "nothing more"
                    for one, other in ((old, new), (new, old))
                )
                raise ValueError(
                    f"{folder}: expected the sweep that lives there, whose job {number} has {has}, "
                    f"got {got}; choose another folder (hydra.sweep.dir=...)"
                )
        write_text(folder / JOBS_FILE, f"{json.dumps(jobs, indent=1)}\n")


def _check_launcher(target: str) -> None:
    module = target.rsplit(".", 2)[0]
    package = _LAUNCHERS.get(module)
    if package is None or (find_spec(module.partition(".")[0]) and find_spec(module)):
        return
    raise ValueError(
        f"hydra/launcher: expected {package} to be installed; pip install -e '.[sweep]', or "
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
