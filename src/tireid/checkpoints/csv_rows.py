"""Save and restore the rows of `metrics.csv`, so that a resumed run's log has each row once."""

import lightning as L

from tireid.tracking.csv_log import CsvLog


def logged_rows(trainer: L.Trainer) -> str | None:
    """Write `metrics.csv` and return its text; None without it, and on ranks other than 0."""
    log = _log(trainer)
    if log is None:
        return None
    log.save()
    return log.text()


def restore_rows(trainer: L.Trainer, text: str | None) -> None:
    """Go on with the rows of a text that `logged_rows` returned."""
    log = _log(trainer)
    if log is not None and text is not None:
        log.restore(text)


def _log(trainer: L.Trainer) -> CsvLog | None:
    if not trainer.is_global_zero:
        return None
    return next((logger for logger in trainer.loggers if isinstance(logger, CsvLog)), None)
