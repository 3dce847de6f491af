"""Rates are logged under the names of their groups, also in short epochs."""

import pytest

from tireid.callbacks.learning_rates import LearningRates
from tireid.runs.log import read_columns
from tireid.tracking.csv_log import CsvLog


def logged(fit, folder, **options):
    logger = CsvLog(str(folder))
    trainer = fit(LearningRates(), logger=logger, **options)
    logger.save()
    return trainer, read_columns(folder / "metrics.csv")


def test_each_groups_rate_is_that_of_the_step(fit, tmp_path):
    _, columns = logged(fit, tmp_path, log_every_n_steps=1)
    rates = [0.1 * 0.5**step for step in range(6)]
    assert [value for _, value in columns["train/lr_encoder"]] == pytest.approx(rates)
    head = [value for _, value in columns["train/lr_head"]]
    assert head == pytest.approx([rate / 10 for rate in rates])
    assert columns["train/lr_head"][0][0] == columns["train/loss"][0][0] == 0


def test_an_epoch_that_is_shorter_than_the_log_interval_is_logged(fit, tmp_path):
    trainer, columns = logged(fit, tmp_path, log_every_n_steps=50)
    assert trainer.log_every_n_steps == 3
    assert [step for step, _ in columns["train/lr_encoder"]] == [2, 5]
    assert [step for step, _ in columns["train/loss"]] == [2, 5]


def test_a_shorter_log_interval_stays(fit, tmp_path):
    trainer, columns = logged(fit, tmp_path, log_every_n_steps=2)
    assert trainer.log_every_n_steps == 2
    assert len(columns["train/lr_encoder"]) == 3
