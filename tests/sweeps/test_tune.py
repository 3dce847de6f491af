"""Tuning: its space, its study, and that a stopped study continues as if it had not been."""

import contextlib
import json
import math
import os
import sqlite3
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf, open_dict

from tests.forked import Command
from tireid.files import conf_dir
from tireid.runs.failure import FAILURE_FILE
from tireid.runs.record import read_record
from tireid.sweeps import tune
from tireid.sweeps.study import STUDY_FILE, Study, read_space

pytest.importorskip("optuna", reason="needs the extra `sweep`")

SMALL = (
    "trainer=cpu model=baseline max_epochs=1 batch_size=8 dataset.read.num_train_ids=8 "
    "dataset.read.num_val_ids=3 dataset.read.num_test_ids=4 dataset.read.images_per_id=2 "
    "dataset.image_size=[48,16] ~callbacks.gallery"
)
SPACE = {
    "recipe.learning_rates.head": {"float": [1e-4, 1e-1], "log": True},
    "dataset.pad": {"int": [0, 8], "step": 4},
    "model": {"choice": ["baseline", "lgur"]},
    "compile": {"choice": [False]},
}


def value_of(overrides):
    """Best, 100, at a rate of 0.01 with the padding 4."""
    settings = dict(text.split("=") for text in overrides)
    rate = math.log10(float(settings["recipe.learning_rates.head"]))
    return 100 - 10 * abs(rate + 2) - abs(int(settings["dataset.pad"]) - 4)


def tuned_study(folder, stop_at=None, trials=14):
    """Tune with a synthetic metric; die in the middle of the trial of a number."""
    study = Study(folder, read_space(SPACE), seed=3, random_trials=5)
    count = len(study.trials())
    while True:
        with study.next(trials) as trial:
            if trial is None:
                return study.trials()
            count += 1
            if count == stop_at:
                raise KeyboardInterrupt
            study.tell(trial, value_of(trial.overrides))


def test_a_study_that_was_stopped_continues_as_if_it_had_not_been(tmp_path):
    whole = tuned_study(tmp_path / "whole")
    for stop_at in (3, 10):
        with pytest.raises(KeyboardInterrupt):
            tuned_study(tmp_path / "parts", stop_at)
    parts = tuned_study(tmp_path / "parts")
    assert len(whole) == 14
    assert [t.overrides for t in parts] == [t.overrides for t in whole]
    assert [t.value for t in parts] == [t.value for t in whole]
    assert [t.folder.name for t in parts] == [t.folder.name for t in whole]
    assert len({t.folder for t in parts}) == 14
    assert tuned_study(tmp_path / "parts") == parts


def test_the_optimiser_is_better_than_random_trials(tmp_path):
    trials = sorted(tuned_study(tmp_path, trials=40), key=lambda t: t.number)
    drawn = [value_of(t.overrides) for t in trials[:5]]
    learned = [value_of(t.overrides) for t in trials[-20:]]
    assert sum(learned) / 20 > sum(drawn) / 5 + 3
    assert all(t.value == value_of(t.overrides) for t in trials)


def test_two_processes_in_one_folder_share_its_trials(tmp_path):
    one = Study(tmp_path, read_space(SPACE), seed=3, random_trials=5)
    two = Study(tmp_path, read_space(SPACE), seed=3, random_trials=5)
    with one.next(2) as first, two.next(2) as second:
        assert first is not None
        assert second is not None
        assert first.folder != second.folder
        assert first.overrides != second.overrides
        with one.next(2) as third:
            assert third is None
        one.tell(first, 1.0)
        two.tell(second, None)
    assert [t.state for t in one.trials()] == ["complete", "failed"]
    assert one.trials() == two.trials()


def test_another_space_is_another_study(tmp_path):
    Study(tmp_path, read_space(SPACE), seed=3, random_trials=5)
    with pytest.raises(ValueError, match=r"expected a study of seed, got one of recipe\."):
        Study(tmp_path, read_space({"seed": {"int": [1, 3]}}), seed=3, random_trials=5)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE study_user_attributes SET value_json = '7'",
        "UPDATE study_user_attributes SET value_json = '['",
        "UPDATE alembic_version SET version_num = 'v9'",
        "",
    ],
)
def test_a_damaged_study_is_named(tmp_path, change):
    Study(tmp_path, read_space(SPACE), seed=3, random_trials=5)
    if change:
        with contextlib.closing(sqlite3.connect(tmp_path / STUDY_FILE)) as database, database:
            database.execute(change)
    else:
        (tmp_path / STUDY_FILE).write_bytes(b"no database" * 100)
    with pytest.raises(ValueError, match=r"study\.db: .*expected"):
        Study(tmp_path, read_space(SPACE), seed=3, random_trials=5).trials()


def test_a_study_elsewhere_is_not_written(tmp_path):
    (tmp_path / "outside.db").touch()
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / STUDY_FILE).symlink_to(tmp_path / "outside.db")
    with pytest.raises(ValueError, match=r"study\.db: expected a file inside"):
        Study(tmp_path / "study", read_space(SPACE), seed=3, random_trials=5)
    assert not (tmp_path / "outside.db").read_bytes()


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"float": [1.0, 0.1]}, r"got {'float': \[1.0, 0.1\]} \(not low < high"),
        ({"float": [1.0]}, r"got {'float': \[1.0\]}"),
        ({"float": [0.0, 0.1], "log": True}, r"got {'float': \[0.0, 0.1\], 'log'"),
        ({"float": [0.1, 1.0], "log": True, "step": 0.1}, "got .*'step': 0.1"),
        ({"int": [1, 2.5]}, "not low < high of its kind"),
        ({"int": [1, 5], "step": 0}, "got .*'step': 0"),
        ({"float": [0.1, 1.0], "base": 2}, "got .*'base': 2"),
        ({"choice": []}, "got {'choice': "),
        ({"choice": 3}, "got {'choice': 3}"),
        ({"choice": [1], "log": True}, "got .*'log': True"),
        ({"float": [1, 2], "int": [1, 2]}, "got {'float'"),
        ({"uniform": [1, 2]}, r"expected {float: \[low, high\]} or .* or {choice: \[...\]}"),
        ([1, 2], r"got \[1, 2\]"),
    ],
)
def test_a_space_that_makes_no_sense_is_named(described, message):
    with pytest.raises(ValueError, match=message) as raised:
        read_space({"a.b": described})
    assert "tuning.space.a.b: " in str(raised.value)


@pytest.fixture
def tuned(monkeypatch, tmp_path):
    """Return a function that tunes with a synthetic metric in the place of training."""

    def run(train, overrides, folder):
        runs.append((train, overrides))
        if train.model._target_.endswith("Lgur"):
            return None
        own = [t for t in overrides if t.startswith(("recipe.learning_rates.head", "dataset.pad"))]
        return {train.monitor: value_of(own), "test/R1": -1.0}

    runs = []
    monkeypatch.setattr(tune, "run_in_process", run)

    def composed(*overrides):
        with initialize_config_dir(conf_dir(), version_base="1.3"):
            cfg = compose("tune", ["tuning=lgur_rates", f"output={tmp_path}", *overrides])
            with open_dict(cfg):
                cfg.tuning = {"name": "synthetic", "train": ["max_epochs=1"], "space": SPACE}
            return tune.tune(cfg), runs

    return composed


def test_tuning_ends_with_a_table_a_chart_and_a_command(tuned, tmp_path, capsys):
    trials, runs = tuned("trials=6", 'train="batch_size=4"', "random_trials=3")
    assert len(trials) == len(runs) == 6
    assert {run.batch_size for run, _ in runs} == {4}
    states = [trial.state for trial in trials]
    assert states == sorted(states)  # complete before failed
    assert states.count("failed") == sum("model=lgur" in overrides for _, overrides in runs)
    best = trials[0]
    assert best.value == max(trial.value for trial in trials if trial.value is not None)
    shown = capsys.readouterr().out
    command = f"tireid train max_epochs=1 batch_size=4 {' '.join(best.overrides)}"
    assert command in shown.replace("'", "")
    assert {"trials.csv", "trials.md", "trials.png", "study.db"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert (tmp_path / "trials.csv").read_text().count("\n") == 7
    told = (best.folder / ".hydra" / "overrides.yaml").read_text()
    assert all(override in told for override in best.overrides)


def test_the_test_split_does_not_decide(tuned):
    with pytest.raises(ValueError, match="validation decides"):
        tuned('train="selection=test"')
    with pytest.raises(ValueError, match="trials: expected an integer >= 1, got 0"):
        tuned("trials=0")


def test_a_space_may_not_choose_what_decides(tuned, monkeypatch):
    monkeypatch.setitem(SPACE, "selection", {"choice": ["val", "test"]})
    with pytest.raises(ValueError, match="validation decides"):
        tuned("trials=1")


def test_a_setting_that_does_not_compose_is_a_failed_trial(tuned, tmp_path, monkeypatch):
    monkeypatch.setitem(SPACE, "model", {"choice": ["nonesuch"]})
    with pytest.raises(ValueError, match="expected a complete trial, got none of 2"):
        tuned("trials=2")
    failure = read_record(tmp_path / "trial_000", FAILURE_FILE)
    assert "nonesuch" in failure["message"]


def test_every_tuning_file_composes_and_draws(compose_config, tmp_path):
    import optuna

    names = [path.stem for path in (Path(conf_dir()) / "tuning").glob("*.yaml")]
    assert names
    for name in names:
        cfg = compose_config(f"tuning={name}", name="tune")
        assert cfg.tuning.name == name
        space = read_space(OmegaConf.to_container(cfg.tuning.space))
        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1)).ask(space)
        drawn = [f"{key}={value}" for key, value in trial.params.items()]
        train = compose_config(*cfg.tuning.train, *drawn, f"paths.output_dir={tmp_path}")
        assert train.monitor == "val/R1"


@pytest.mark.slow
@pytest.mark.ddp
def test_a_trial_is_a_run_folder(tmp_path, cache_dir):
    (tmp_path / "mine" / "tuning").mkdir(parents=True)
    (tmp_path / "mine" / "tuning" / "pads.yaml").write_text(
        "name: pads\ntrain: []\nspace:\n  dataset.pad: {int: [0, 2]}\n"
    )
    words = [
        *("tireid", "tune", "--config-dir", str(tmp_path / "mine")),
        *("tuning=pads", "trials=1", f"output={tmp_path / 'study'}"),
        f'train="{SMALL} paths.cache_dir={cache_dir}"',
    ]
    done = Command(words, Path.cwd(), os.environ | {"OMP_NUM_THREADS": "1"}).finish()
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "study" / "trial_000" / "metrics.json").read_text())
    assert record["finished"]
    assert f"best: val/R1 {record['metrics']['val/R1']:.2f}" in done.stdout
