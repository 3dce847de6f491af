"""Compare runs: one table, mean and standard deviation over seeds.

python -m tireid.compare runs/sweeps/lgur_ablation
python -m tireid.compare runs/sweeps/lgur_ablation --csv results/lgur_ablation.csv
python -m tireid.compare results/lgur_ablation.csv --fill README.md
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tireid.results import Result, fill, markdown, read_csv, read_runs, table, write_csv


def compare(sources: Sequence[Path], *, csv: Path | None = None, into: Path | None = None) -> None:
    """Print one table of all runs; write it where asked.

    Args:
        sources: Run folders, folders of them, or CSV files that this wrote.
        csv: Keep the runs, a line each, in this file.
        into: Put the table, as Markdown, between the markers of each CSV's name in this file.

    Raises:
        FileNotFoundError: If a source is missing or holds no runs.
        ValueError: If a record cannot be read, or a marker is missing.
    """
    console = Console(highlight=False, soft_wrap=True)
    results: list[Result] = []
    for source in sources:
        if not source.exists():
            raise FileNotFoundError(
                f"{source}: expected a folder of runs, or a CSV file of results"
            )
        if source.is_dir():
            found, incomplete = read_runs(source)
            results += found
            for folder in incomplete:
                console.print(f"left out, not complete: {folder}", style="yellow", markup=False)
        else:
            results += read_csv(source)
    if not results:
        raise ValueError(f"{', '.join(map(str, sources))}: expected a complete run, got none")
    _print(console, results)
    if csv is not None:
        csv.parent.mkdir(parents=True, exist_ok=True)
        write_csv(results, csv)
        console.print(f"written: {csv}", markup=False)
    if into is not None:
        name = (csv or sources[0]).stem
        text = into.read_text(encoding="utf-8")
        into.write_text(fill(text, name, markdown(*table(results))), encoding="utf-8")
        console.print(f"written: {into}, at {name}", markup=False)


def _print(console: Console, results: list[Result]) -> None:
    head, rows = table(results)
    shown = Table()
    for number, name in enumerate(head):
        shown.add_column(name, justify="right" if number else "left", no_wrap=number > 0)
    for row in rows:
        shown.add_row(*row, style="red" if "CHOSEN ON TEST" in row[0] else None)
    # Wider than the window rather than cut.
    wide = console.options.update(width=10_000)
    console.width = max(console.width, console.measure(shown, options=wide).maximum)
    console.print(shown)
    if len({(result.dataset, result.test_data) for result in results}) > len(
        {result.dataset for result in results}
    ):
        console.print("The rows were not tested on the same data.", style="bold red")


def main() -> None:
    """Run `tireid-compare`."""
    parser = argparse.ArgumentParser(prog="tireid-compare", description=compare.__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Compare runs: one table, mean and standard deviation over seeds."
    parser.add_argument(
        "sources", nargs="+", type=Path, help="run folders, or CSV files of results"
    )
    parser.add_argument("--csv", type=Path, help="keep the runs, a line each, in this file")
    parser.add_argument("--fill", type=Path, help="put the table between this file's markers")
    arguments = parser.parse_args()
    try:
        compare(arguments.sources, csv=arguments.csv, into=arguments.fill)
    except (ValueError, OSError) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"[bold red]error:[/bold red] {error}"
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
