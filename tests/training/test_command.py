"""What a run folder keeps of its command, and what a refused start leaves alone."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from tireid.files import conf_dir
from tireid.runs.settings import read_overrides
from tireid.training.command import RunFolder, discard_folder, record_command

TINY = [
    *("model=baseline", "logger=csv", "trainer=cpu", "max_epochs=1", "batch_size=8"),
    *("dataset.read.num_train_ids=8", "dataset.read.num_val_ids=3", "dataset.read.num_test_ids=4"),
    *("dataset.read.images_per_id=2", "dataset.image_size=[48,16]", "~callbacks.gallery"),
]


def command(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "tireid", "train", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize("strategy", ["single", "ddp_cpu"])
def test_a_run_keeps_its_command_and_a_refused_start_does_not_replace_it(
    tmp_path, cache_dir, strategy
):
    places = [f"hydra.run.dir={tmp_path / 'run'}", f"paths.cache_dir={cache_dir}"]
    first = [*TINY, f"strategy={strategy}", "seed=2"]
    done = command(*first, *places)
    assert done.returncode == 0, done.stderr
    assert read_overrides(tmp_path / "run") == [*first, places[1]]
    recorded = yaml.safe_load((tmp_path / "run" / ".hydra" / "hydra.yaml").read_text())
    assert recorded["hydra"]["runtime"]["choices"]["model"] == "baseline"
    for other in (["seed=3"], ["batch_size=-1", "ckpt_path=null"]):
        refused = command(*TINY, *other, *places)
        assert refused.returncode == 1
        assert refused.stderr.count("error: ") == 1
        assert read_overrides(tmp_path / "run") == [*first, places[1]]
    anew = [*TINY, f"strategy={strategy}", "seed=3", "ckpt_path=null"]
    assert command(*anew, *places).returncode == 0
    assert read_overrides(tmp_path / "run") == [*anew, places[1]]


@pytest.mark.slow
def test_a_sweep_records_the_command_of_each_job_and_keeps_that_of_another_run(tmp_path, cache_dir):
    places = [f"hydra.sweep.dir={tmp_path}", f"paths.cache_dir={cache_dir}"]
    done = command("--multirun", *TINY, "seed=1,2", *places)
    assert done.returncode == 0, done.stderr
    before = {job: read_overrides(tmp_path / job) for job in "01"}
    assert sorted(before.values()) == sorted(json.loads((tmp_path / "jobs.json").read_text()))
    (tmp_path / "jobs.json").unlink()
    done = command("--multirun", *TINY, "seed=3,4", *places)
    assert done.returncode == 1
    assert {job: read_overrides(tmp_path / job) for job in "01"} == before


def test_without_hydra_nothing_is_recorded(tmp_path):
    record_command(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_command_that_is_recorded_already_is_left(tmp_path, monkeypatch):
    source = tmp_path / "shared" / ".hydra"
    source.mkdir(parents=True)
    (source / "overrides.yaml").write_text("[seed=5]\n")
    record_command(tmp_path / "run", tmp_path / "shared")
    assert read_overrides(tmp_path / "run") == ["seed=5"]
    (source / "overrides.yaml").write_text("[seed=6]\n")
    monkeypatch.setenv("TIREID_RECORDED", "true")
    record_command(tmp_path / "run", tmp_path / "shared")
    assert read_overrides(tmp_path / "run") == ["seed=5"]


def hydra_config(*overrides):
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=True)


def test_the_default_folder_is_made_and_hydra_s_config_is_given_back(tmp_path):
    RunFolder().on_run_start(hydra_config(f"paths.runs_dir={tmp_path}", "model=baseline"))
    assert len(list((tmp_path / "synthetic" / "baseline").iterdir())) == 1
    assert not HydraConfig.initialized()


def test_a_run_folder_that_cannot_be_made_is_one_message(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "run"
    with pytest.raises(SystemExit):
        RunFolder().on_run_start(hydra_config(f"hydra.run.dir={folder}"))
    said = capsys.readouterr().err
    assert said.startswith(f"error: {folder}: expected a folder that can be made, got ")
    assert "hydra.run.dir=FOLDER" in said
    assert "paths.runs_dir=FOLDER" in said


def test_processes_that_discard_one_folder_at_once_leave_none(tmp_path, monkeypatch):
    run = tmp_path / "runs" / "baseline" / "1"
    monkeypatch.setattr("tireid.training.command._made", [run, run.parent, run.parent.parent])
    run.parent.mkdir(parents=True)  # another process has just removed the folder itself
    discard_folder()
    assert not list(tmp_path.iterdir())
