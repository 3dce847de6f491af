"""The command `tireid dataset`."""

import argparse
from pathlib import Path

from tireid.cli.arguments import Parser
from tireid.cli.commands import LAYOUTS
from tireid.cli.errors import one_message
from tireid.console import say, show_warnings_in_one_line


def main() -> None:
    """Run `tireid dataset convert`; the exit code is 2 if it could not be converted."""
    arguments = _parse()
    from tireid.data.conversion import convert  # late: the help needs no torch

    show_warnings_in_one_line()
    with one_message(2):
        for line in convert(
            arguments.source, arguments.root, arguments.to, arguments.out, images=arguments.images
        ):
            say(line)
    say(f"to use it: dataset={arguments.to} dataset.root={arguments.out}")


def _parse() -> argparse.Namespace:
    parser = Parser(
        prog="tireid dataset",
        usage="tireid dataset convert FROM ROOT --to LAYOUT OUT [--images link|copy|none]",
        description="Write a data set in another layout. Nothing is overwritten; what the layout "
        "cannot hold is said.",
        epilog="Exit code: 0 if it was written, 2 if not.",
    )
    parser.add_argument("action", choices=("convert",), help="what to do")
    parser.add_argument("source", metavar="FROM", choices=LAYOUTS, help=", ".join(LAYOUTS))
    parser.add_argument("root", type=Path, metavar="ROOT", help="the folder of the data set")
    parser.add_argument(
        "--to", metavar="LAYOUT", choices=LAYOUTS, required=True, help="layout to write"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument(
        "--images",
        choices=("link", "copy", "none"),
        default="link",
        help="imgs/ is a link, holds copies, or is not made (default: link)",
    )
    return parser.parse()
