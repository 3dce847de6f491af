"""A sweep: failures are recorded and the rest runs, a killed one goes on, one table at the end."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from tireid.files import conf_dir
from tireid.runs.failure import FAILURE_FILE, write_failure
from tireid.runs.folder import claim
from tireid.runs.record import read_record
from tireid.runs.results import read_runs
from tireid.sweeps import grid, report
from tireid.training.errors import recorded_failure
from tireid.training.run import train

SMALL = [
    "trainer=cpu",
    "model=baseline",
    "max_epochs=1",
    "batch_size=8",
    "dataset.read.num_train_ids=8",
    "dataset.read.num_val_ids=3",
    "dataset.read.num_test_ids=4",
    "dataset.read.images_per_id=2",
    "dataset.image_size=[48,16]",
    "~callbacks.gallery",
]


def command(folder, cache_dir, *overrides):
    return [
        sys.executable,
        "-m",
        "tireid",
        "train",
        "--multirun",
        *SMALL,
        f"paths.cache_dir={cache_dir}",
        f"hydra.sweep.dir={folder}",
        *overrides,
    ]


def run(words, **kwargs):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        words, capture_output=True, text=True, timeout=560, env=environment, check=False, **kwargs
    )


def records(folder):
    return {p.parent.name: p.stat().st_mtime_ns for p in folder.glob("*/metrics.json")}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.ddp
def test_a_failure_is_recorded_and_a_killed_sweep_runs_only_what_is_missing(tmp_path, cache_dir):
    """Six jobs, of which the second must fail."""
    folder = tmp_path / "sweep"
    words = command(folder, cache_dir, "seed=1,-1,2,3,4,5")
    sweep = subprocess.Popen(
        words,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    began = time.monotonic()
    while not (folder / "2" / "config.yaml").exists() and time.monotonic() - began < 200:
        time.sleep(0.1)
    sweep.kill()
    sweep.wait()
    # The job that was running dies with the sweep, so that its folder is free again.
    while not _free(folder / "2") and time.monotonic() - began < 230:
        time.sleep(0.1)
    kept = records(folder)
    assert set(kept) <= {"0", "2"}
    killed = read_runs(folder)
    assert {run.state for run in killed.unfinished} >= {"failed", "incomplete", "missing"}

    done = run(words)
    assert done.returncode == 1
    assert "5 of 6 runs complete, 1 failed" in done.stdout
    assert done.stderr.count("complete already") == 1
    assert records(folder)["0"] == kept["0"]
    assert "Traceback" not in done.stderr
    failure = read_record(folder / "1", FAILURE_FILE)
    assert failure["error"] == "ValueError"
    assert "seed: expected an integer from 0" in failure["message"]
    assert "seed=-1" in failure["overrides"]
    assert "check_scalars" in failure["traceback"]
    assert {"results.csv", "report.html", "report.md"} <= {p.name for p in folder.iterdir()}
    page = (folder / "report.md").read_text()
    assert "| Baseline | 5 |" in page
    assert page.count("| failed | ") == 1


def _free(folder):
    with claim(folder) as free:
        return free


LAUNCHERS = {
    "parallel": ("hydra_plugins.hydra_joblib_launcher", ["hydra.launcher.n_jobs=2"]),
    "slurm_local": (
        "hydra_plugins.hydra_submitit_launcher",
        ["hydra.launcher.timeout_min=4", "hydra.launcher.cpus_per_task=1"],
    ),
}


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(name, marks=pytest.mark.long) if name == "slurm_local" else name
        for name in LAUNCHERS
    ],
)
def test_jobs_at_once_do_not_collide(tmp_path, cache_dir, launcher):
    module, more = LAUNCHERS[launcher]
    pytest.importorskip(module, reason="needs the extra `sweep`")
    folder = tmp_path / "sweep"
    subdir = "hydra.sweep.subdir=pad${dataset.pad}"
    words = [f"hydra/launcher={launcher}", *more, subdir, "dataset.pad=0,1,2"]
    done = run(command(folder, cache_dir, *words), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 runs complete" in done.stdout
    assert len(records(folder)) == 3
    assert "| Baseline, dataset.pad=1 | 1 |" in (folder / "report.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sweep"]


def test_a_process_that_dies_leaves_a_record_and_a_signal_reaches_it(tmp_path, monkeypatch):
    """With short commands in the place of trainings."""
    cfg = OmegaConf.create({"strategy": {"num_nodes": 1}})
    folder = tmp_path / "run"
    node = sweep_config(tmp_path).hydra
    node.runtime = {"cwd": str(tmp_path)}
    monkeypatch.setattr(grid, "HydraConfig", SimpleNamespace(get=lambda: node))

    def ends_with(code):
        words = [sys.executable, "-c", code]
        monkeypatch.setattr(grid, "_command", lambda overrides, folder: words)
        return grid.run_in_process(cfg, ["seed=1"], folder)

    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    for code, message in (("exit(3)", "exit code 3"), (kill, "signal SIGKILL")):
        assert ends_with(code) is None
        failure = read_record(folder, FAILURE_FILE)
        assert message in failure["message"]

    waits = f"""
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
pathlib.Path({str(tmp_path / "ready")!r}).touch()
time.sleep(60)
"""

    def ask_to_end():
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    written = (folder / "failure.json").stat().st_mtime_ns
    before = signal.getsignal(signal.SIGTERM)
    asking = threading.Thread(target=ask_to_end)
    asking.start()
    with pytest.raises(SystemExit) as raised:
        ends_with(waits)
    asking.join()
    assert raised.value.code == 75
    assert signal.getsignal(signal.SIGTERM) is before
    assert (folder / "failure.json").stat().st_mtime_ns == written  # being stopped is no failure


def test_a_job_on_many_nodes_is_refused(tmp_path, capsys):
    cfg = OmegaConf.create({"strategy": {"num_nodes": 2}})
    assert grid.run_in_process(cfg, ["seed=1"], tmp_path) is None
    failure = read_record(tmp_path, FAILURE_FILE)
    assert "strategy.num_nodes: expected 1 in a sweep" in failure["message"]
    assert "hydra/launcher=slurm" in capsys.readouterr().err


def test_a_failure_is_recorded_until_a_success(tmp_path):
    with pytest.raises(OSError, match="disk"), recorded_failure(tmp_path):
        raise OSError("the disk is full")
    failure = read_record(tmp_path, FAILURE_FILE)
    assert failure["error"] == "OSError"
    assert "the disk is full" in failure["traceback"]
    with pytest.raises(SystemExit), recorded_failure(tmp_path):
        raise SystemExit(1)
    assert read_record(tmp_path, FAILURE_FILE) == failure
    with recorded_failure(tmp_path):
        pass
    assert not read_record(tmp_path, FAILURE_FILE)


def test_workers_share_the_cores_and_end_with_their_sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "available_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(grid, "_POLL_SECONDS", 0.05)
    node = sweep_config(tmp_path, "hydra_plugins.hydra_joblib_launcher.x.Y").hydra
    node.launcher.n_jobs = 3
    node.runtime = {"cwd": str(tmp_path)}
    monkeypatch.setattr(grid, "HydraConfig", SimpleNamespace(get=lambda: node))
    monkeypatch.setenv("TIREID_SWEEP_PROCESS", str(os.getppid()))
    code = "import os; open('threads', 'w').write(os.environ['OMP_NUM_THREADS'])"
    assert grid._run([sys.executable, "-c", code]) == 0
    assert (tmp_path / "threads").read_text() == "2"
    answers = iter([False, True])
    monkeypatch.setattr(grid, "_abandoned", lambda: next(answers))
    with pytest.raises(SystemExit):
        grid._run([sys.executable, "-c", "import time; time.sleep(60)"])


def test_what_cannot_be_written_is_recorded_and_then_tried_again(small_config, tmp_path):
    """A file stands where the folder of checkpoints should be."""
    cfg = small_config(tmp_path, "model=baseline", "max_epochs=1", "skip_finished=true")
    (tmp_path / "checkpoints").touch()
    with pytest.raises(OSError, match="checkpoints"):
        train(cfg)
    failure = read_record(tmp_path, FAILURE_FILE)
    assert "checkpoints" in failure["message"]
    (tmp_path / "checkpoints").unlink()
    assert train(cfg)
    assert not read_record(tmp_path, FAILURE_FILE)


def sweep_config(tmp_path, launcher="hydra._internal.core_plugins.basic_launcher.BasicLauncher"):
    return OmegaConf.create(
        {
            "hydra": {
                "launcher": {"_target_": launcher},
                "sweeper": {
                    "_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
                    "max_batch_size": None,
                    "params": {"seed": "1,2", "model": "a, b"},
                },
                "overrides": {"task": ["sweep=x", "seed=range(3,5)"]},
                "sweep": {"dir": str(tmp_path)},
            }
        }
    )


def test_jobs_that_never_began_are_named_at_the_end(tmp_path, capsys):
    """The command line wins over the file; two other processes are at two of the four jobs."""
    callback = report.SweepReport()
    callback.on_multirun_start(sweep_config(tmp_path))
    jobs = json.loads((tmp_path / "jobs.json").read_text())
    pairs = [(3, "a"), (3, "b"), (4, "a"), (4, "b")]
    assert jobs == [[f"seed={s}", f"model={v}", "sweep=x"] for s, v in pairs]
    write_failure(tmp_path / "0", "ValueError", "a reason\nof two lines")
    (tmp_path / "1" / ".hydra").mkdir(parents=True)
    (tmp_path / "1" / ".hydra" / "overrides.yaml").write_text(json.dumps(jobs[1]))
    with claim(tmp_path / "1"), pytest.raises(SystemExit) as raised:
        callback.on_multirun_end(sweep_config(tmp_path))
    assert raised.value.code == 1
    shown = capsys.readouterr().out
    assert "ValueError: a reason of two lines" in shown
    assert "in use by another process: seed=3 model=b sweep=x" in shown
    assert "not started: seed=4 model=b sweep=x" in shown
    counts = "1 failed, 1 being run by another process, 3 not started"
    assert f"0 of 5 runs complete, {counts}" in shown


def test_another_sweep_in_the_same_numbered_folders_is_refused_before_it_runs(tmp_path, capsys):
    config = sweep_config(tmp_path)
    config.hydra.sweep.subdir = "${hydra.job.num}"
    report.SweepReport().on_multirun_start(config)
    report.SweepReport().on_multirun_start(config)  # continued
    jobs = (tmp_path / "jobs.json").read_text()
    config.hydra.sweeper.params.model = "b, a"
    with pytest.raises(SystemExit):
        report.SweepReport().on_multirun_start(config)
    said = capsys.readouterr().err
    assert "whose job 0 has model=a, got model=b" in said
    assert "hydra.sweep.dir=" in said
    assert (tmp_path / "jobs.json").read_text() == jobs
    config.hydra.sweep.subdir = "seed${seed}"  # folders that the settings name hold both
    report.SweepReport().on_multirun_start(config)


def test_sweeps_without_a_name_get_folders_of_their_own():
    pattern = OmegaConf.load(Path(conf_dir()) / "train.yaml")
    assert "-%f}" in OmegaConf.to_container(pattern.hydra)["sweep"]["dir"]


def test_a_sweep_ends_with_a_report_and_ends_without_it_if_that_fails(
    copied_run, monkeypatch, capsys
):
    folder = copied_run.parent
    assert report.conclude(folder)
    assert "results.csv, report.html, report.md" in capsys.readouterr().out
    assert "val R@1" in (folder / "report.md").read_text(encoding="utf-8")

    def failing(*_, **__):
        raise RuntimeError("no ink")

    monkeypatch.setattr("tireid.comparison.report.write_report", failing)
    assert report.conclude(folder)
    said = capsys.readouterr().out
    assert f"RuntimeError: no ink; make compare RUNS={folder} tries again" in said
    assert "1 of 1 runs complete" in said


@pytest.mark.parametrize("name", ["parallel", "slurm", "slurm_local"])
def test_a_launcher_that_is_not_there_says_how_to_install_it(tmp_path, monkeypatch, capsys, name):
    (file,) = (Path(conf_dir()) / "hydra" / "launcher").glob(f"{name}.yaml")
    target = OmegaConf.load(file)._target_
    monkeypatch.setattr(report, "find_spec", lambda module: None)
    with pytest.raises(SystemExit):
        report.SweepReport().on_multirun_start(sweep_config(tmp_path, target))
    assert "pip install -e '.[sweep]'" in capsys.readouterr().err


def test_a_sweep_under_torchrun_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "7")
    with pytest.raises(SystemExit):
        report.SweepReport().on_multirun_start(sweep_config(tmp_path))
    assert "start the sweep without torchrun" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.ddp
def test_the_processes_of_a_distributed_job_run_that_job(tmp_path, cache_dir):
    folder = tmp_path / "sweep"
    words = ["strategy=ddp_cpu", "dataset.pad=0,2"]
    done = run(command(folder, cache_dir, *words), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for job, pad in (("0", 0), ("1", 2)):
        assert json.loads((folder / job / "metrics.json").read_text())["processes"] == 2
        assert f"\n  pad: {pad}\n" in (folder / job / "config.yaml").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sweep"]
