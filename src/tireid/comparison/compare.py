"""Compare runs: print one table with means over seeds, and write a report.

tireid compare runs/sweeps/lgur_ablation
tireid compare runs/sweeps/lgur_ablation --csv results/lgur_ablation.csv
tireid compare results/*.csv --no-page --fill docs/results.md
"""

import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tireid.comparison.table import columns, fill, markdown, print_results, table
from tireid.console import say
from tireid.files import write_text
from tireid.runs.results import Runs, Unfinished, read_csv, read_runs, write_csv


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """Options of a report.

    Attributes:
        out: Folder of `report.html` and `report.md`.
        control: Label of the row that others are compared with; None: a baseline.
        pictures: Whether images of real data sets are shown.
    """

    out: Path
    control: str | None = None
    pictures: bool = False


def compare(
    sources: Sequence[Path],
    *,
    csv: Path | None = None,
    picture: Path | None = None,
    into: Path | None = None,
    report: ReportOptions | None = None,
) -> None:
    """Print one table of all runs, and write the files that are asked for.

    Args:
        sources: Run folders, folders of runs, and CSV files of results.
        csv: File for the results, a line for each run.
        picture: File for a chart of the results.
        into: Markdown file with markers, between which the tables are put: one with the name of
            the CSV file that is written or, without that, one with the name of each source.
        report: Write a report with these options.

    Raises:
        FileNotFoundError: If a source is missing or has no runs.
        ValueError: If a record cannot be read, or a marker or the control is missing.
    """
    for source in sources:
        if not source.exists():
            raise FileNotFoundError(
                f"{source}: expected a folder of runs, or a CSV file of results"
            )
    if report is not None:
        _create(report.out)
    read = {
        source: Runs(read_csv(source), []) if source.is_file() else read_runs(source)
        for source in sources
    }
    results = [result for runs in read.values() for result in runs.complete]
    print_unfinished([run for runs in read.values() for run in runs.unfinished])
    if not results:
        raise ValueError(f"{', '.join(map(str, sources))}: expected a complete run, got none")
    print_results(results)
    if csv is not None:
        csv.parent.mkdir(parents=True, exist_ok=True)
        write_csv(results, csv, columns())
        say(f"written: {csv}")
    if picture is not None:
        from tireid.comparison.chart import draw_results  # late: a table needs no matplotlib

        picture.parent.mkdir(parents=True, exist_ok=True)
        draw_results(results, picture)
        say(f"written: {picture}")
    if into is not None:
        tables = {csv.stem: results} if csv else {s.stem: r.complete for s, r in read.items()}
        text = into.read_text(encoding="utf-8")
        for name, members in tables.items():
            text = fill(text, name, markdown(*table(members)))
        write_text(into, text)
        say(f"written: {into}, at {', '.join(tables)}")
    if report is not None:
        _write_report(read, report)


def print_unfinished(runs: Sequence[Unfinished]) -> None:
    """Print a line for each run without a result."""
    for run in runs:
        say(str(run), style="red" if run.state == "failed" else "yellow")


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


def _write_report(read: Mapping[Path, Runs], options: ReportOptions) -> None:
    from tireid.comparison.report import load_comparison, write_report  # late, as the chart

    comparison = load_comparison(read, control=options.control, pictures=options.pictures)
    command = shlex.join(["tireid", "compare", *sys.argv[1:]])
    for path in write_report(comparison, options.out, command=command):
        say(f"written: {path}")
