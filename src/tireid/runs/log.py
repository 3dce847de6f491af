"""Read the metrics that a run has logged, `metrics.csv`."""

import csv
from pathlib import Path

from tireid.runs.foreign import read_text

LOG_FILE = "metrics.csv"


def read_columns(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Read Lightning's CSV log as (step, value) pairs by metric name.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it cannot be read.
    """
    columns: dict[str, list[tuple[int, float]]] = {}
    lines = read_text(path, inside=path.parent).splitlines()
    try:
        for row in csv.DictReader(lines):
            for name, value in row.items():
                if value and name not in ("step", "epoch"):
                    columns.setdefault(name, []).append((int(row["step"]), float(value)))
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}: expected rows of numbers with a step, got {error!r}") from error
    return columns
