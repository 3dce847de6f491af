"""What panels ask for is what a training logs."""

import re

import pytest

from tireid.comparison.dashboard import names
from tireid.comparison.dashboard.report import Scope
from tireid.metrics.names import compared, headlines
from tireid.training.run import train

pytest.importorskip("wandb")


@pytest.fixture(scope="module")
def run(small_config, read_logged, tmp_path_factory):
    folder = tmp_path_factory.mktemp("logged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        train(small_config(folder, "model=lgur", "logger=wandb", "trainer.log_every_n_steps=1"))
    return read_logged(folder)


@pytest.mark.slow
def test_every_name_is_logged(run):
    metrics = {*headlines("val/"), *compared("test/")}
    summary = {*metrics, *names.COST}
    summary |= {names.QUERIES, names.GALLERY, names.SIMILARITIES}
    assert summary <= set(run.summary)
    assert {names.LABEL, names.SEED, *names.METHOD} <= set(run.config)
    history = {name for row in run.history for name in row}
    assert {names.STEP, names.LOSS, *metrics} <= history
    assert [name for name in history if re.search(names.LOSS_TERMS, name)]


@pytest.mark.slow
def test_the_run_is_among_those_that_are_compared(run):
    runs = Scope("me", run.project, "synthetic", group=run.run.group).runs()
    assert runs.filters == (
        "Metric(\"Tags\") in ['synthetic'] and Metric(\"JobType\") == 'train' and "
        f"Metric(\"Group\") == '{run.run.group}' and Metric(\"State\") == 'finished'"
    )
    assert "synthetic" in run.run.tags
    assert (run.run.job_type, run.exit_code) == ("train", 0)


@pytest.mark.slow
def test_costs_are_in_the_units_that_their_axes_say(run):
    cost = {name: run.summary[name] for name in names.COST}
    steps_per_second = cost["cost/images_per_second"] * cost["cost/train_seconds"]
    assert steps_per_second == pytest.approx(2 * 32, rel=0.05)  # two epochs of 32 captions
    assert 3 < cost["cost/parameters_million"] < 5
    assert 100 < cost["cost/peak_memory_mib"] < 20_000
