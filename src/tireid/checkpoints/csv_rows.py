"""Save and restore the rows of `metrics.csv`, so that a resumed run's log has each row once."""

import csv
from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import CSVLogger

from tireid.files import replacing


def logged_rows(trainer: L.Trainer) -> str | None:
    """Return the text of `metrics.csv`; None without a CSV logger and on ranks other than 0."""
    logger = _csv_logger(trainer)
    if logger is None:
        return None
    file = _flushed(logger)
    return file.read_text(encoding="utf-8") if file.is_file() else None


def restore_rows(trainer: L.Trainer, text: str | None) -> None:
    """Write `metrics.csv` as it was; Lightning has removed the earlier run's file by now."""
    logger = _csv_logger(trainer)
    if logger is None or text is None:
        return
    with replacing(_flushed(logger)) as writer:
        writer.write(text.encode())
    logger.experiment.metrics_keys = next(csv.reader(text.splitlines()[:1]), [])


def _csv_logger(trainer: L.Trainer) -> CSVLogger | None:
    if not trainer.is_global_zero:
        return None
    return next((logger for logger in trainer.loggers if isinstance(logger, CSVLogger)), None)


def _flushed(logger: CSVLogger) -> Path:
    logger.save()
    return Path(logger.experiment.metrics_file_path)
