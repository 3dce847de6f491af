"""The command `tireid compare`."""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from tireid.comparison.compare import PageSettings, compare


def main() -> None:
    """Run `tireid compare`."""
    parser = argparse.ArgumentParser(prog="tireid compare")
    parser.description = (
        "Compare runs: one table, mean and standard deviation over seeds, and a report of all "
        "that the runs tell, as a page (report.html) and as text (report.md)."
    )
    parser.add_argument(
        "sources",
        nargs="+",
        type=Path,
        help="run folders, CSV files of results, or offline runs of wandb",
    )
    parser.add_argument("--csv", type=Path, help="keep the runs, a line each, in this file")
    parser.add_argument("--picture", type=Path, help="draw the runs into this file (.png, .pdf)")
    parser.add_argument(
        "--fill", type=Path, help="put the tables between this file's markers of their names"
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the report; default: the first source, or here"
    )
    parser.add_argument("--no-page", action="store_true", help="write no report")
    parser.add_argument(
        "--control", metavar="LABEL", help="compare with this row; default: a baseline"
    )
    parser.add_argument(
        "--pictures",
        action="store_true",
        help="put pictures of real people into the report too, where their terms allow it",
    )
    arguments = parser.parse_args()
    if arguments.no_page and (arguments.out or arguments.control or arguments.pictures):
        parser.error(
            "--out, --control and --pictures are for the report, which --no-page leaves out"
        )
    first: Path = arguments.sources[0]
    out = arguments.out or (first if first.is_dir() else Path())
    page = PageSettings(out, arguments.control, arguments.pictures)
    try:
        compare(
            arguments.sources,
            csv=arguments.csv,
            picture=arguments.picture,
            into=arguments.fill,
            page=None if arguments.no_page else page,
        )
    except (ValueError, OSError) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"[bold red]error:[/bold red] {escape(str(error))}"
        )
        sys.exit(1)
