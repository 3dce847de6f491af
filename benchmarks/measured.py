"""Write what a benchmark found as `results/` keeps it: with command, commit, machine and table."""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from tireid.files import write_json
from tireid.runs.environment import device_name, source_state, versions

LOAD = os.getloadavg()[0]  # of the minute before; as little as possible of it is this process's


def origin(device: torch.device) -> dict[str, Any]:
    """Return where and by what a benchmark is run."""
    command = " ".join(["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]])
    source = source_state(Path(__file__).parent)
    of = {"command": command, "device": device_name(device), "load_before": LOAD}
    return of | source | {"versions": versions()}


def cells(table: Table) -> dict[str, Any]:
    """Return the content of a table: its head, its rows, and how many columns hold text."""
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    left = sum(column.justify == "left" for column in table.columns)
    head = [str(column.header) for column in table.columns]
    return {"head": head, "rows": [list(row) for row in zip(*columns, strict=True)], "left": left}


def show_and_write(output: Path, table: Table, **found: Any) -> None:
    """Print a table, and write it with its origin and all else that was found."""
    console = Console(highlight=False)
    console.print(table)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(output, origin(torch.device("cpu")) | {"table": cells(table)} | found)
    console.print(f"written: {output}", soft_wrap=True)
