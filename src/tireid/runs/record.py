"""Read the JSON records of a run folder."""

import json
from pathlib import Path
from typing import Any

RECORD_FILE = "metrics.json"


def read_record(folder: Path, name: str = RECORD_FILE) -> dict[str, Any]:
    """Return the content of a JSON file in a run folder; empty if there is no such file.

    Args:
        folder: The run folder.
        name: Name of the file.

    Raises:
        ValueError: If it cannot be read or holds no mapping.
    """
    file = folder / name
    if not file.exists():
        return {}
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: expected a run's record in JSON, got {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"{file}: expected a run's record, got a {type(record).__name__}")
    return record
