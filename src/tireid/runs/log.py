"""Read the metrics that a run has logged, `metrics.csv`."""

import csv
from pathlib import Path

LOG_FILE = "metrics.csv"


def read_columns(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Read Lightning's CSV log as (step, value) pairs by metric name."""
    columns: dict[str, list[tuple[int, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name not in ("step", "epoch"):
                    columns.setdefault(name, []).append((int(row["step"]), float(value)))
    return columns
