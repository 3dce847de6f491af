"""Write and read `failure.json`, which says why a run of a sweep failed."""

import datetime
import json
from pathlib import Path
from typing import Any

from tireid.files import write_json
from tireid.runs.settings import read_overrides

FAILURE_FILE = "failure.json"


def write_failure(folder: Path, error: str, message: str, trace: str = "") -> None:
    """Write `failure.json`.

    Args:
        folder: The run folder; made if missing.
        error: Name of the error's class.
        message: Message of the error.
        trace: Traceback of the error.
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
    """Return the record of a run's failure; None if there is none.

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
