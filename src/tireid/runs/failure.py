"""Write `failure.json`, which says why a run of a sweep failed."""

import datetime
from pathlib import Path

from tireid.files import write_json
from tireid.runs.settings import read_overrides

FAILURE_FILE = "failure.json"
FAILURE = {"error": str, "message": str}  # what is taken of it


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
