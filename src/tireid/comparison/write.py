"""Runs side by side: a table, its files, and a line for each run without a result."""

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tireid.comparison.chart import draw_results
from tireid.comparison.table import columns, markdown, table
from tireid.runs.results import Result, Runs, Unfinished, write_csv

STATES = {
    "failed": "failed",
    "running": "another process is at it",
    "incomplete": "not complete",
    "missing": "not started",
}


def print_results(console: Console, results: Sequence[Result]) -> None:
    """Print one table of means over seeds, and say if its rows do not compare."""
    head, rows = table(results)
    shown = Table()
    for number, name in enumerate(head):
        shown.add_column(name, justify="right" if number else "left", no_wrap=number > 0)
    for row in rows:
        cells = [Text(cell) for cell in row]  # labels are anybody's, and no markup
        shown.add_row(*cells, style="red" if "CHOSEN ON TEST" in row[0] else None)
    # Wider than the window rather than cut.
    wide = console.options.update(width=10_000)
    console.width = max(console.width, console.measure(shown, options=wide).maximum)
    console.print(shown)
    if differing_data(results):
        console.print("The rows were not tested on the same data.", style="bold red")


def differing_data(results: Sequence[Result]) -> bool:
    """Whether runs on one data set were tested on different files."""
    splits = {(result.dataset, result.test_data) for result in results}
    return len(splits) > len({result.dataset for result in results})


def print_unfinished(console: Console, runs: Sequence[Unfinished]) -> None:
    """Print a line for each run that has no result."""
    for run in runs:
        console.print(_line(run), style="red" if run.state == "failed" else "yellow", markup=False)


def write_comparison(console: Console, runs: Runs, folder: Path) -> list[str]:
    """Print the table, and write it as `results.csv`, `results.md` and `results.png`.

    Args:
        console: Where the table is printed.
        runs: With at least one complete run.
        folder: Where the files go.

    Returns:
        The names of the files.
    """
    print_results(console, runs.complete)
    temporary = folder / f".results.{os.getpid()}"
    write_csv(runs.complete, temporary, columns())
    temporary.replace(folder / "results.csv")
    lines = [markdown(*table(runs.complete))]
    if differing_data(runs.complete):
        lines.append("\nThe rows were not tested on the same data.")
    if runs.unfinished:
        lines += ["", *(f"- {_line(run)}" for run in runs.unfinished)]
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    temporary.replace(folder / "results.md")
    note = f"{len(runs.unfinished)} more without a result" if runs.unfinished else ""
    draw_results(runs.complete, folder / "results.png", note)
    return ["results.csv", "results.md", "results.png"]


def _line(run: Unfinished) -> str:
    reason = f": {' '.join(run.reason.split())}" if run.reason else ""
    place = f" ({run.folder})" if run.folder is not None and str(run.folder) != run.name else ""
    return f"{STATES[run.state]}: {run.name}{reason}{place}"
