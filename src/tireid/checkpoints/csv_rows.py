"""The rows of `metrics.csv` in a checkpoint, so that a resumed run's log has each row once."""

import csv
from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import CSVLogger

from tireid.files import replacing


def logged_rows(trainer: L.Trainer) -> str | None:
    """Return the text of the log so far, None where there is no such log or process."""
    file = _file(trainer)
    return file.read_text(encoding="utf-8") if file is not None and file.is_file() else None


def restore_rows(trainer: L.Trainer, text: str | None) -> None:
    """Make the log what it was; Lightning has removed the file of the run before by now."""
    file = _file(trainer)
    if file is None or text is None:
        return
    with replacing(file) as writer:
        writer.write(text.encode())
    experiment = _csv_logger(trainer).experiment  # pyright: ignore[reportOptionalMemberAccess] -- it has a file
    experiment.metrics_keys = next(csv.reader(text.splitlines()[:1]), [])


def _file(trainer: L.Trainer) -> Path | None:
    logger = _csv_logger(trainer)
    if logger is None or not trainer.is_global_zero:
        return None
    logger.save()
    return Path(logger.experiment.metrics_file_path)


def _csv_logger(trainer: L.Trainer) -> CSVLogger | None:
    return next((one for one in trainer.loggers if isinstance(one, CSVLogger)), None)
