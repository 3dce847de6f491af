"""`failure.json`: what ended a run that was to be one of many, so that the others go on."""

import datetime
import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException

from tireid.files import write_json
from tireid.run_folder import read_overrides

FAILURE_FILE = "failure.json"


def root_cause(error: BaseException) -> BaseException:
    """Return what was raised inside a class that a config named, else the error itself."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


@contextmanager
def recorded_failure(folder: Path, *, keep: bool = False) -> Iterator[None]:
    """Leave a record of an error in a run folder and raise it on; remove an older one on success.

    Being stopped (Ctrl-C, a signal, an exit) is no failure of the run.

    Args:
        folder: The run folder.
        keep: Whether an older record stays even so.
    """
    try:
        yield
    except Exception as error:
        cause = root_cause(error)
        text = "".join(traceback.format_exception(error))
        write_failure(folder, type(cause).__name__, str(cause).strip(), text)
        raise
    if not keep:
        (folder / FAILURE_FILE).unlink(missing_ok=True)


def write_failure(folder: Path, error: str, message: str, trace: str = "") -> None:
    """Write `failure.json`.

    Args:
        folder: The run folder; made if missing.
        error: Kind of the error.
        message: What it says.
        trace: Where it was raised.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "error": error,
        "message": message,
        "overrides": read_overrides(folder),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "traceback": trace,
    }
    write_json(folder / FAILURE_FILE, content)


def read_failure(folder: Path) -> dict[str, Any] | None:
    """Return the record of a run's failure; None where there is none.

    Raises:
        ValueError: If it cannot be read.
    """
    file = folder / FAILURE_FILE
    if not file.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return {**content, "error": str(content["error"]), "message": str(content["message"])}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: expected the record of a failure, got {error!r}") from error
