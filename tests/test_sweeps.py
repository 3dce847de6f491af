"""A sweep: failures are recorded and the rest runs, a killed one goes on, one table at the end."""

import os
import subprocess
import sys
import time

import pytest

from tireid.failures import read_failure
from tireid.results import read_runs
from tireid.run_folder import claimed

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
        "tireid.train",
        "--multirun",
        *SMALL,
        f"paths.cache_dir={cache_dir}",
        f"hydra.sweep.dir={folder}",
        *overrides,
    ]


def run(words, **kwargs):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        words, capture_output=True, text=True, timeout=280, env=environment, check=False, **kwargs
    )


def records(folder):
    return {p.parent.name: p.stat().st_mtime_ns for p in folder.glob("*/metrics.json")}


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
    failure = read_failure(folder / "1")
    assert failure is not None
    assert failure["error"] == "ValueError"
    assert "seed: expected an integer from 0" in failure["message"]
    assert "seed=-1" in failure["overrides"]
    assert "check_scalars" in failure["traceback"]
    assert {"results.csv", "results.md", "results.png"} <= {p.name for p in folder.iterdir()}
    page = (folder / "results.md").read_text()
    assert "| Baseline | 5 |" in page
    assert page.count("- failed: ") == 1


def _free(folder):
    with claimed(folder) as free:
        return free
