"""The command `tireid compare`."""

import argparse
import sys
from pathlib import Path

from tireid.cli.arguments import Parser
from tireid.console import complain


def main() -> None:
    """Run `tireid compare`."""
    arguments = _parse()
    from tireid.comparison.compare import ReportOptions, compare  # late: the help needs no torch

    first: Path = arguments.sources[0]
    out = arguments.out or (first if first.is_dir() else Path())
    options = ReportOptions(out, arguments.control, arguments.pictures)
    try:
        compare(
            arguments.sources,
            csv=arguments.csv,
            picture=arguments.picture,
            into=arguments.fill,
            report=None if arguments.no_page else options,
        )
    except (ValueError, OSError) as error:
        complain(str(error))
        sys.exit(1)


def _parse() -> argparse.Namespace:
    parser = Parser(
        prog="tireid compare",
        description=(
            "Compare runs: print one table with mean and standard deviation over seeds, and write "
            "a report as a web page (report.html) and as text (report.md)."
        ),
    )
    parser.add_argument(
        "sources", nargs="+", type=Path, help="run folders, or CSV files of results"
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
