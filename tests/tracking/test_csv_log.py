"""The log of a run as a file: its columns, and what a full disk leaves of it."""

import errno
import os

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from tireid.tracking.csv_log import CsvLog

ROWS = [
    ({"train/loss": torch.tensor(0.5), "epoch": 0}, 9),
    ({"train/loss": 0.25, "train/lr": 1e-3, "epoch": 0}, 19),
    ({"val/R1": torch.tensor(12.5, dtype=torch.float64), "epoch": 0}, 19),
    ({"train/loss": 0.125, "epoch": 1}, 29),
]


def test_it_writes_what_lightning_s_log_would(tmp_path):
    own, other = CsvLog(str(tmp_path / "own")), CSVLogger(tmp_path / "other", name="", version="")
    for number, (metrics, step) in enumerate(ROWS):
        for logger in (own, other):
            logger.log_metrics(dict(metrics), step)
            if number % 2:
                logger.save()
    own.finalize("success")
    other.finalize("success")
    written = (tmp_path / "own" / "metrics.csv").read_text()
    assert written == (tmp_path / "other" / "metrics.csv").read_text()
    assert written == own.text()


def test_a_full_disk_leaves_the_rows_that_were_there(tmp_path, monkeypatch):
    log = CsvLog(str(tmp_path))
    log.log_metrics({"train/loss": 0.5}, 0)
    log.save()
    before = (tmp_path / "metrics.csv").read_bytes()
    log.log_metrics({"val/R1": 12.5}, 1)  # a new column: the whole file changes

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"metrics\.csv: could not be written"):
            log.save()
    assert (tmp_path / "metrics.csv").read_bytes() == before
    log.save()
    assert b"12.5" in (tmp_path / "metrics.csv").read_bytes()


def test_nothing_is_written_before_something_is_logged(tmp_path):
    log = CsvLog(str(tmp_path / "run"), flush_every_n_steps=2)
    log.save()
    assert not (tmp_path / "run").exists()
    log.log_metrics({"a": 1.0}, 0)
    assert not (tmp_path / "run").exists()
    log.log_metrics({"a": 1.0}, 1)
    assert (tmp_path / "run" / "metrics.csv").is_file()
