"""Read the JSON records of a run folder."""

from pathlib import Path
from typing import Any

from tireid.runs.foreign import read_json

RECORD_FILE = "metrics.json"
RECORD = {
    "finished": bool,
    "metrics": {str: float | None},
    "seed": int | None,
    "selection": str | None,
    "tested_checkpoint": str | None,
    "converted_from": str | None,
    "official_code": str | None,
    "steps": int,
    "epochs": int,
    "seconds": {str: float | None},
    "images_per_second": float | None,
    "peak_memory_mib": float | None,
    "parameters": {str: float},
    "data_sha256": {str: str},
    "validations": [{str: float | None}],
    "teacher": {"run": str, str: float | None},
    "device": str,
    "processes": int,
    "precision": str | int,
    "commit": str | None,
    "dirty": bool | None,
    "versions": {str: str},
}
EVALUATION = {
    "metrics": {str: float | None},
    "data_sha256": str,
    "dataset": str,
    "trained_on": str,
}


def read_record(folder: Path, name: str = RECORD_FILE, kinds: Any = RECORD) -> dict[str, Any]:
    """Return the content of a JSON file in a run folder; empty if there is no such file.

    Args:
        folder: The run folder.
        name: Name of the file.
        kinds: Kinds of its values, as in `tireid.runs.foreign.check`.

    Raises:
        ValueError: If it cannot be read, or a value is of another kind; names file and field.
    """
    file = folder / name
    if not (file.exists() or file.is_symlink()):
        return {}
    return read_json(file, "a run's record", kinds, inside=folder)
