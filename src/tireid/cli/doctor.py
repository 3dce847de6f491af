"""The command `tireid doctor`."""

import argparse
import sys
from pathlib import Path

from tireid.cli.arguments import Parser
from tireid.cli.commands import LAYOUTS
from tireid.cli.errors import one_message
from tireid.console import say, show_warnings_in_one_line


def main() -> None:
    """Run `tireid doctor`; the exit code is 0 if all is well, 1 for problems, 2 for no data set."""
    arguments = _parse()
    from tireid.doctor.correcting import write_corrected
    from tireid.doctor.examination import examine  # late: the help needs no torch
    from tireid.doctor.report import write_report
    from tireid.doctor.screen import show_examination
    from tireid.files import resolve_cache_dir

    show_warnings_in_one_line()
    out: Path | None = arguments.out
    with one_message(2):
        memory = resolve_cache_dir(arguments.cache) / "checked-images"
        result = examine(
            arguments.dataset,
            arguments.root,
            memory=memory,
            own=arguments.own,
            model=arguments.model,
        )
        show_examination(result)
        for file in write_report(result, out, images=arguments.images) if out is not None else ():
            say(f"written: {file}")
        if arguments.fix is not None:
            for change in write_corrected(result.corrected, arguments.fix, list(result.files)):
                say(change)
            say(f"written: {arguments.fix}")
    sys.exit(1 if result.harmful else 0)


def _parse() -> argparse.Namespace:
    parser = Parser(
        prog="tireid doctor",
        description=(
            "Examine the files of a data set as training reads them: what is missing, damaged, "
            "repeated or not as published, and what to do about it. Nothing of it is changed."
        ),
        epilog="Exit code: 0 if nothing loses data or falsifies results, 1 if something does, "
        "2 if there is nothing to examine.",
    )
    parser.add_argument("dataset", choices=LAYOUTS, help="the data set, or whose layout it has")
    parser.add_argument(
        "root", type=Path, help="its folder; also found one or two levels above or below"
    )
    parser.add_argument(
        "--own",
        action="store_true",
        help="these are other files in its layout: no published counts are expected",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="a run or an export, whose vocabulary the words are looked for in (default: the "
        "synthetic captions)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write report.html, report.md and report.json"
    )
    parser.add_argument(
        "--images", action="store_true", help="show images in report.html, if their terms allow it"
    )
    parser.add_argument(
        "--fix",
        type=Path,
        metavar="FILE",
        help="write a corrected copy of the annotation file and print each change",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="as paths.cache_dir (default: $XDG_CACHE_HOME/tireid or ~/.cache/tireid)",
    )
    arguments = parser.parse()
    if arguments.images and arguments.out is None:
        parser.error("--images is an option of the report: give --out FOLDER")
    return arguments
