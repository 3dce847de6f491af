"""Runs of which only what Weights & Biases kept is there, beside runs with their folders."""

import shutil
from pathlib import Path

import pytest

from tireid.comparison import offline_wandb
from tireid.comparison.compare import PageSettings, compare
from tireid.comparison.offline_wandb import holds_wandb_runs, logged_curves, read_wandb_runs
from tireid.tracking.offline import LoggedArtifact, OfflineRun

METRICS = {"val/R1": 40.0, "val/mAP": 41.0, "test/R1": 30.0, "test/mAP": 31.0}


def offline_run(folder, job_type="train", **other):
    settings = {
        "label": "logged",
        "seed": 3,
        "selection": "val",
        "dataset.name": "synthetic",
        "model._target_": "tireid.methods.baseline.Baseline",
        "image_encoder.module._target_": "tireid.encoders.vit.VitEncoder",
        "text_encoder.module._target_": "tireid.encoders.lstm.BiLstmEncoder",
        "text_encoder.module.embedding._target_": "tireid.encoders.lstm.WordEmbedding",
        "overrides": ["seed=3"],
        "commit": "abc",
        "dirty": False,
    }
    step = "trainer/global_step"
    fields = {
        "id": "x",
        "folders": (folder,),
        "name": "logged Vit+BiLstm synthetic seed3",
        "group": "",
        "job_type": job_type,
        "project": "tireid",
        "tags": (),
        "config": settings,
        "summary": {
            "val/R1": 45.0,  # the best of all; that of the tested checkpoint is another
            "test/R1": 30.0,
            "seconds": {"training": 60.0},
            "images_per_second": 50.0,
            "parameters": {"total": 2_000_000, "trained": 1_000_000},
            "steps": 20,
            "data_sha256": {"test": "f00"},
        },
        "history": [
            {step: 9, "train/loss": 4.0},
            {step: 10, "val/R1": 40.0},
            {step: 19, "train/loss": 3.0},
            {step: 20, "val/R1": 45.0},
        ],
        "definitions": {},
        "artifacts": (LoggedArtifact("m", "model", ("best",), {"metrics": METRICS}, {}),),
        "exit_code": 0,
    }
    return OfflineRun(**fields | other)


@pytest.fixture
def kept(monkeypatch):
    """Return a function that puts runs below a folder, without the client of wandb."""
    runs = {}
    monkeypatch.setattr(offline_wandb, "read_offline_runs", lambda place: runs[place])

    def put(folder, *jobs, **other):
        place = folder / "wandb"
        inner = place / "offline-run-20260101_000000-x"
        inner.mkdir(parents=True)
        (inner / "run-x.wandb").touch()
        runs[place] = [offline_run(inner, job, **other) for job in jobs or ("train",)]
        return place

    return put


def test_a_run_of_wandb_is_a_line_of_the_table(kept, tmp_path):
    assert not holds_wandb_runs(tmp_path)
    kept(tmp_path / "run", "teacher", "train")
    assert holds_wandb_runs(tmp_path)
    runs = read_wandb_runs(tmp_path)
    (result,) = runs.complete
    assert (result.label, result.dataset, result.seed, result.steps) == (
        *("logged", "synthetic", 3, 20),
    )
    assert result.metrics == {
        **{"val/R1": 40.0, "val/mAP": 41.0, "test/R1": 30.0, "test/mAP": 31.0},
    }
    assert (result.seconds, result.parameters, result.test_data) == (60.0, 2_000_000, "f00")
    (origin,) = runs.origins
    assert isinstance(origin, OfflineRun)
    assert logged_curves(origin) == {
        "train/loss": [(9, 4.0), (19, 3.0)],
        "val/R1": [(10, 40.0), (20, 45.0)],
    }


def test_without_an_artifact_the_best_values_stand_in(kept, tmp_path):
    kept(tmp_path, artifacts=())
    assert read_wandb_runs(tmp_path).complete[0].metrics == {"val/R1": 45.0, "test/R1": 30.0}


def test_a_run_that_was_not_tested_is_not_complete(kept, tmp_path):
    kept(tmp_path, summary={"val/R1": 10.0}, artifacts=())
    runs = read_wandb_runs(tmp_path)
    assert not runs.complete
    assert [(run.name, run.state) for run in runs.unfinished] == [
        ("logged Vit+BiLstm synthetic seed3", "incomplete")
    ]


def test_a_run_that_was_killed_before_it_told_all_is_not_complete(kept, tmp_path):
    told = {"test/R1": 30.0}
    kept(tmp_path / "a", summary=told, artifacts=(), exit_code=None)
    kept(tmp_path / "b", summary=told, artifacts=())  # ended, without the callback that tells
    runs = read_wandb_runs(tmp_path)
    assert [run.folder.parents[1].name for run in runs.unfinished] == ["a"]
    assert len(runs.complete) == 1


def test_a_run_that_died_at_once_does_not_hide_the_others(kept, tmp_path, monkeypatch):
    good, place = kept(tmp_path / "good"), kept(tmp_path / "dead")
    known = offline_wandb.read_offline_runs

    def read(folder):
        if folder == place:
            raise FileNotFoundError("expected a run")
        return known(folder)

    monkeypatch.setattr(offline_wandb, "read_offline_runs", read)
    runs = read_wandb_runs(good.parents[1])
    assert len(runs.complete) == 1
    assert [(run.state, run.folder) for run in runs.unfinished] == [("incomplete", place)]


def test_something_else_that_logs_to_wandb_is_refused(kept, tmp_path):
    kept(tmp_path, config={"seed": 1})
    with pytest.raises(ValueError, match="expected runs of wandb as training logs them"):
        read_wandb_runs(tmp_path)


def test_wandb_must_be_installed_to_read_its_runs(kept, tmp_path, monkeypatch):
    place = kept(tmp_path)

    def missing(_):
        raise ModuleNotFoundError("No module named 'wandb'")

    monkeypatch.setattr(offline_wandb, "read_offline_runs", missing)
    with pytest.raises(ValueError, match="expected wandb to be installed"):
        read_wandb_runs(place)


def test_a_run_inside_a_run_folder_counts_once_and_a_lonely_one_gives_table_and_curves(
    kept, copied_run, tmp_path, capsys
):
    inside = kept(copied_run)
    kept(copied_run / "teacher", "teacher")
    lonely = tmp_path / "elsewhere"
    kept(lonely)
    out = tmp_path / "out"
    compare([inside, copied_run, lonely], page=PageSettings(out))
    text = (out / "report.md").read_text(encoding="utf-8")
    assert "2 runs in 2 rows" in text
    row = next(line for line in text.splitlines() if line.startswith("| logged"))
    assert "| Vit | BiLstm |" in row
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "logged: 45.0" in page  # the end of its curve
    shutil.rmtree(copied_run)
    assert "written" in capsys.readouterr().out


def test_a_folder_without_any_run_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected run folders"):
        compare([Path(tmp_path)])
