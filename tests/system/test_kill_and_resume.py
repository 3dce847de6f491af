"""Real processes, really killed."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.forked import Command
from tireid.search.engines.embedded import EmbeddedEngine
from tireid.search.engines.interface import Row

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "kill_and_resume.py"


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.ddp
def test_a_trial_ends_equal_and_the_script_counts_it(tmp_path):
    command = [sys.executable, str(SCRIPT), "--trials", "1"]
    command += ["--folder", str(tmp_path / "runs"), "--seed", "3", "--scenarios", "baseline"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 equal" in done.stdout
    assert re.search(r"baseline +killed after", done.stdout)
    # The comparison sees one changed weight.
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        import kill_and_resume
    finally:
        sys.path.remove(str(SCRIPT.parent))
    ours, theirs = (tmp_path / "runs" / name for name in ("trial01_baseline", "unbroken_baseline"))
    assert kill_and_resume.differences(ours, theirs) == []
    file = ours / "checkpoints" / "last.ckpt"
    content = torch.load(file, weights_only=True)
    weight = next(iter(content["state_dict"].values()))
    weight[(0,) * weight.dim()] += 1e-6
    torch.save(content, file)
    (difference,) = kill_and_resume.differences(ours, theirs)
    assert difference.startswith("checkpoints/last.ckpt: ")


def test_one_changed_vector_of_an_index_is_seen(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    script = importlib.import_module("kill_and_resume")
    folders = [tmp_path / name for name in ("ours", "theirs")]
    for number, folder in enumerate(folders):
        folder.mkdir()
        engine = EmbeddedEngine(folder, 4)
        rows = [Row(n, f"/{n}.png", "/", 1, 1, "a", {}) for n in range(2)]
        engine.add(rows, torch.eye(4)[[0, 1 + number]])
        engine.close()
    assert script.differences(folders[0], folders[0]) == []
    assert script.differences(*folders) == ["/1.png"]


@pytest.mark.slow
@pytest.mark.ddp
def test_sigterm_to_the_group_ends_a_process_with_75_and_the_same_command_continues(
    tmp_path, cache_dir
):
    """Loading processes are of the group, too."""
    small = "trainer=cpu max_epochs=2 batch_size=8 dataset.read.num_train_ids=8 model=baseline"
    small += " dataset.read.num_val_ids=3 dataset.read.num_test_ids=4 dataset.image_size=[48,16]"
    small += " dataset.read.images_per_id=4 dataset.cache_images=false dataset.num_workers=1"
    folder = tmp_path / "run"
    places = [f"paths.cache_dir={cache_dir}", f"hydra.run.dir={folder}"]
    command = ["tireid", "train", *small.split(), "trainer.log_every_n_steps=1", *places]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = Command(command, tmp_path, environment, merged=True)
    while process.poll() is None and not (folder / "metrics.csv").exists():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    began = time.monotonic()
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 75, said
    assert time.monotonic() - began < 30
    assert "stopped by SIGTERM: " in said
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    done = Command(command, tmp_path, environment).finish()
    assert done.returncode == 0, done.stderr
    assert "continuing after epoch" in done.stdout
    assert json.loads((folder / "metrics.json").read_text())["finished"]
