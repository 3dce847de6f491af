"""The command `tireid compare`: print one table with means over seeds, and write a report.

tireid compare runs/sweeps/lgur_ablation
tireid compare runs/sweeps/lgur_ablation --csv results/lgur_ablation.csv
tireid compare results/*.csv --no-page --fill docs/results.md
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tireid.cli.arguments import Parser
from tireid.cli.errors import one_message
from tireid.console import say
from tireid.files import write_text

if TYPE_CHECKING:
    from tireid.runs.results import Result


def main() -> None:
    """Run `tireid compare`."""
    with one_message():
        arguments = vars(_parse())
        arguments["page"] = not arguments.pop("no_page")
        compare(**arguments)


def compare(
    sources: Sequence[Path],
    *,
    csv: Path | None = None,
    picture: Path | None = None,
    fill: Path | None = None,
    out: Path | None = None,
    page: bool = False,
    control: str | None = None,
    pictures: bool = False,
) -> "list[Result]":
    """Print one table of all runs, and write the files that are asked for.

    Args:
        sources: Run folders, folders of runs, and CSV files of results.
        csv: File for the results, a line for each run.
        picture: File for a chart of the results.
        fill: Markdown file with markers, between which the tables are put: one with the name of
            the CSV file that is written or, without that, one with the name of each source.
        out: Folder of `report.html` and `report.md`.
        page: Whether they are written without it too: into the first source, or the current folder.
        control: Label of the row of the report that others are compared with; None: a baseline.
        pictures: Whether the report shows images of real data sets.

    Returns:
        The results of the complete runs, in the order of the sources.

    Raises:
        FileNotFoundError: If a source is missing or has no runs.
        ValueError: If a record cannot be read, or a marker or the control is missing.
    """
    # Late: the help needs no torch, and a table no matplotlib.
    from tireid.comparison import table
    from tireid.runs.folder import named_run
    from tireid.runs.foreign import read_text
    from tireid.runs.results import Runs, read_csv, read_runs, write_csv

    sources = [named_run(source) for source in sources]
    if out is None and page:
        out = sources[0] if sources[0].is_dir() else Path()
    _check(sources, out)
    read = {
        source: Runs(read_csv(source), []) if source.is_file() else read_runs(source)
        for source in sources
    }
    results = [result for runs in read.values() for result in runs.complete]
    table.print_unfinished(run for runs in read.values() for run in runs.unfinished)
    if not results:
        raise ValueError(f"{', '.join(map(str, sources))}: expected a complete run, got none")
    table.print_results(results)
    if csv is not None:
        csv.parent.mkdir(parents=True, exist_ok=True)
        write_csv(results, csv, table.columns())
        say(f"written: {csv}")
    if picture is not None:
        from tireid.comparison.chart import draw_results

        picture.parent.mkdir(parents=True, exist_ok=True)
        draw_results(results, picture)
        say(f"written: {picture}")
    if fill is not None:
        tables = {csv.stem: results} if csv else {s.stem: r.complete for s, r in read.items()}
        text = read_text(fill)
        for name, members in tables.items():
            text = table.fill(text, name, table.markdown(*table.table(members)))
        write_text(fill, text)
        say(f"written: {fill}, at {', '.join(tables)}")
    if out is not None:
        from tireid.comparison.report import load_comparison, write_report

        comparison = load_comparison(read, control=control, pictures=pictures)
        command = shlex.join(["tireid", "compare", *sys.argv[1:]])
        for path in write_report(comparison, out, command=command):
            say(f"written: {path}")
    return results


def _check(sources: Sequence[Path], out: Path | None) -> None:
    """Check what is read and where to write first, so that a bad path fails at once."""
    for source in sources:
        if not source.exists():
            raise FileNotFoundError(
                f"{source}: expected a folder of runs, or a CSV file of results"
            )
    if out is not None:
        _create(out)


def _create(folder: Path) -> None:
    """Create the report folder first, so that a bad path fails at once."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"{folder}: expected a folder to write the report into, got {error.strerror}; "
            "choose another with --out"
        ) from error


def _parse() -> argparse.Namespace:
    parser = Parser(
        prog="tireid compare",
        description=(
            "Compare runs: print one table with mean and standard deviation over seeds, and write "
            "a report as a web page (report.html) and as text (report.md)."
        ),
    )
    parser.add_argument(
        "sources", nargs="+", type=Path, help="run folders, CSV files of results, or latest"
    )
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="write the results to this file, a line per run"
    )
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="draw a chart into this file (.png, .pdf)"
    )
    parser.add_argument(
        "--fill",
        type=Path,
        metavar="FILE",
        help="put the tables between the markers of their names in this file",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder of the report (default: the first source, or the current folder)",
    )
    parser.add_argument("--no-page", action="store_true", help="write no report")
    parser.add_argument(
        "--control", metavar="LABEL", help="compare with this row (default: a baseline)"
    )
    parser.add_argument(
        "--pictures",
        action="store_true",
        help="show images of real data sets in the report, if their terms allow it",
    )
    arguments = parser.parse()
    if arguments.no_page and (arguments.out or arguments.control or arguments.pictures):
        parser.error("--out, --control and --pictures are options of the report: drop --no-page")
    return arguments
