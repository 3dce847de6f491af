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

from tireid.comparison import print_results, print_unfinished
from tireid.result_chart import draw_results
from tireid.result_table import fill, markdown, table
from tireid.results import Result, read_csv, read_runs, write_csv


def compare(
    sources: Sequence[Path],
    *,
    csv: Path | None = None,
    picture: Path | None = None,
    into: Path | None = None,
) -> None:
    """Print one table of all runs; write it where asked.

    Args:
        sources: Run folders, folders of them, or CSV files that this wrote.
        csv: Keep the runs, a line each, in this file.
        picture: Draw the runs of each row into this file.
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
            runs = read_runs(source)
            results += runs.complete
            print_unfinished(console, runs.unfinished)
        else:
            results += read_csv(source)
    if not results:
        raise ValueError(f"{', '.join(map(str, sources))}: expected a complete run, got none")
    print_results(console, results)
    if csv is not None:
        csv.parent.mkdir(parents=True, exist_ok=True)
        write_csv(results, csv)
        console.print(f"written: {csv}", markup=False)
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        draw_results(results, picture)
        console.print(f"written: {picture}", markup=False)
    if into is not None:
        name = (csv or sources[0]).stem
        text = into.read_text(encoding="utf-8")
        into.write_text(fill(text, name, markdown(*table(results))), encoding="utf-8")
        console.print(f"written: {into}, at {name}", markup=False)


def main() -> None:
    """Run `tireid-compare`."""
    parser = argparse.ArgumentParser(prog="tireid-compare", description=compare.__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Compare runs: one table, mean and standard deviation over seeds."
    parser.add_argument(
        "sources", nargs="+", type=Path, help="run folders, or CSV files of results"
    )
    parser.add_argument("--csv", type=Path, help="keep the runs, a line each, in this file")
    parser.add_argument("--picture", type=Path, help="draw the runs into this file (.png, .pdf)")
    parser.add_argument("--fill", type=Path, help="put the table between this file's markers")
    arguments = parser.parse_args()
    try:
        compare(
            arguments.sources, csv=arguments.csv, picture=arguments.picture, into=arguments.fill
        )
    except (ValueError, OSError) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"[bold red]error:[/bold red] {error}"
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
