"""Compare runs: one table, mean and standard deviation over seeds, and a report of all they tell.

python -m tireid compare runs/sweeps/lgur_ablation
python -m tireid compare runs/sweeps/lgur_ablation --csv results/lgur_ablation.csv
python -m tireid compare results/*.csv --no-page --fill README.md
"""

import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tireid.comparison.chart import draw_results
from tireid.comparison.offline_wandb import holds_wandb_runs, read_wandb_runs
from tireid.comparison.table import columns, fill, markdown, table
from tireid.comparison.write import print_results, print_unfinished
from tireid.runs.results import Runs, read_csv, read_runs, write_csv


@dataclass(frozen=True, slots=True)
class PageSettings:
    """How a report is written.

    Attributes:
        out: Folder of `report.html` and `report.md`.
        control: Label of the row that others are compared with; None: a baseline.
        pictures: Whether pictures of real data sets may be put in.
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
    page: PageSettings | None = None,
) -> None:
    """Print one table of all runs; write it, and what else the runs tell, where asked.

    Args:
        sources: Run folders, folders of them, CSV files that this wrote, or folders of runs that
            Weights & Biases kept offline.
        csv: Keep the runs, a line each, in this file.
        picture: Draw the runs of each row into this file.
        into: Put the tables, as Markdown, between the markers of their names in this file: of
            the CSV that is written or, without one, of each source.
        page: Write a report.

    Raises:
        FileNotFoundError: If a source is missing or holds no runs.
        ValueError: If a record cannot be read, or a marker or the control is missing.
    """
    console = Console(highlight=False, soft_wrap=True)
    for source in sources:
        if not source.exists():
            raise FileNotFoundError(
                f"{source}: expected a folder of runs, or a CSV file of results"
            )
    if page is not None:
        _check_folder(page.out)
    read = _read(sources)
    results = [result for runs in read.values() for result in runs.complete]
    for runs in read.values():
        print_unfinished(console, runs.unfinished)
    if not results:
        raise ValueError(f"{', '.join(map(str, sources))}: expected a complete run, got none")
    print_results(console, results)
    if csv is not None:
        csv.parent.mkdir(parents=True, exist_ok=True)
        write_csv(results, csv, columns())
        console.print(f"written: {csv}", markup=False)
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        draw_results(results, picture)
        console.print(f"written: {picture}", markup=False)
    if into is not None:
        tables = {csv.stem: results} if csv else {s.stem: r.complete for s, r in read.items()}
        text = into.read_text(encoding="utf-8")
        for name, members in tables.items():
            text = fill(text, name, markdown(*table(members)))
        into.write_text(text, encoding="utf-8")
        console.print(f"written: {into}, at {', '.join(tables)}", markup=False)
    if page is not None:
        _write_page(console, read, page)


def _check_folder(folder: Path) -> None:
    """Make the folder of a report; it is not to be found out after minutes that it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"{folder}: expected a folder to write the report into, got {error.strerror}; "
            "choose another with --out"
        ) from error


def _read(sources: Sequence[Path]) -> dict[Path, Runs]:
    """Return the runs of each source; one that two sources hold counts for the first."""
    read: dict[Path, Runs] = {}
    for source in sources:
        if source.is_file():
            read[source] = Runs(read_csv(source), [])
            continue
        read[source] = read_runs(source, must_exist=not holds_wandb_runs(source))
    known = {
        place.resolve()
        for runs in read.values()
        for place in [*runs.origins, *(run.folder for run in runs.unfinished)]
        if isinstance(place, Path)
    }
    for source in sources:
        if source.is_dir():
            more = read_wandb_runs(source, known)
            read[source] = Runs(
                [*read[source].complete, *more.complete],
                [*read[source].unfinished, *more.unfinished],
                [*read[source].origins, *more.origins],
            )
    return read


def _write_page(console: Console, read: Mapping[Path, Runs], page: PageSettings) -> None:
    from tireid.comparison.report import read_material, write_report  # late: tables need no figures

    material = read_material(read, control=page.control, pictures=page.pictures)
    words = ["python", "-m", "tireid", "compare", *sys.argv[1:]]
    for path in write_report(material, page.out, command=shlex.join(words)):
        console.print(f"written: {path}", markup=False)
