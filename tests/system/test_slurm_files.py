"""The sbatch files of `slurm/`: what they submit is a training that there is."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf

BASH = shutil.which("bash") or ""
pytestmark = pytest.mark.skipif(not BASH, reason="needs bash")
ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "slurm").glob("*.sbatch"))
# What a node's commands would be: the words of `srun`, one a line; the code that it is told.
SRUN = '#!/bin/sh\nprintf "%s\\n" "$@"\nexit ${CODE:-0}\n'
SCONTROL = '#!/bin/sh\necho "scontrol $*"\n'


@pytest.fixture
def submitted(tmp_path):
    """Return a function that runs a file as a job would: to its exit code and its lines."""
    for name, content in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)

    def run(file, *words, **variables):
        job = re.search(r"^#SBATCH --job-name=(\S+)$", file.read_text(), re.MULTILINE)
        assert job
        own = {"SLURM_JOB_NAME": job[1], "SLURM_JOB_ID": "7", "HOME": "/home/me"}
        path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            [BASH, "-u", str(file), *words],
            cwd=ROOT,
            env=path | own | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.stderr
        return done.returncode, done.stdout.splitlines()

    return run


def options(file):
    return dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", file.read_text(), re.MULTILINE))


def test_there_is_a_file_for_each_method_and_number_of_gpus():
    names = {f"{method}_{count}gpu" for method in ("lgur", "lcr2s") for count in (1, 4, 8)}
    assert {file.stem for file in FILES} == names


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_trains_its_experiment_on_its_gpus(file, submitted, compose_config, monkeypatch):
    subprocess.run([BASH, "-n", str(file)], check=True)
    method, count = file.stem.removesuffix("gpu").split("_")
    asked = options(file)
    assert asked["job-name"] == file.stem
    assert asked["gpus-per-node"] == asked["ntasks-per-node"] == count
    code, lines = submitted(file, "max_epochs=3", ROOT="/my data", CACHE="/scratch", SEED="2")
    assert code == 0
    words = [line.partition("=") for line in lines[3:]]
    overrides = [
        f"{name}='{value}'" if " " in value else f"{name}={value}" for name, _, value in words
    ]
    assert lines[1:3] == [".venv/bin/tireid", "train"]
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", count)
    monkeypatch.setenv("SLURM_NNODES", "1")
    cfg = compose_config(*[word for word in overrides if not word.startswith("hydra.")])
    assert cfg.dataset.name == "cuhk_pedes"
    assert cfg.dataset.read.root == "/my data"
    assert cfg.model._target_.lower().endswith(method)
    assert OmegaConf.select(cfg, "paths.cache_dir") == "/scratch/tireid"
    assert (cfg.strategy.devices, int(cfg.seed), int(cfg.max_epochs)) == (int(count), 2, 3)
    assert cfg.batch_size % int(count) == 0
    assert f"hydra.run.dir=runs/reproduce/{file.stem}/seed2" in overrides


def test_a_job_that_was_asked_to_stop_is_queued_again(submitted):
    code, lines = submitted(FILES[0], CODE="75")
    assert (code, lines[-1]) == (75, "scontrol requeue 7")
    code, lines = submitted(FILES[0], CODE="1")
    assert code == 1
    assert "scontrol" not in lines[-1]
