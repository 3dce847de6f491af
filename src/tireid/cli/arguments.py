"""Options that all commands share, and argparse that answers a mistyped option with the nearest."""

import argparse
import sys
from typing import Any

from tireid.cli.commands import EXAMPLES, did_you_mean

TRUST = "--trust"
TRUST_HELP = "trust this package, whose classes a run names, from now on: its code runs"


def split_trust(words: list[str]) -> tuple[list[str], list[str]]:
    """Take `--trust PACKAGE`, which may stand several times, out of the words of any command.

    Args:
        words: What stands behind the command.

    Returns:
        The other words, and the packages.

    Raises:
        SystemExit: With code 2, if no package is named.
    """
    rest, packages, waiting = list[str](), list[str](), iter(words)
    for word in waiting:
        option, _, value = word.partition("=")
        if option != TRUST:
            rest.append(word)
            continue
        package = value or next(waiting, "")
        if not package or package.startswith("-"):
            sys.stderr.write(f"tireid: {TRUST}: expected a package, such as mypkg\n")
            sys.exit(2)
        packages.append(package)
    return rest, packages


class Parser(argparse.ArgumentParser):
    """As `argparse.ArgumentParser`, whose options it takes; options must be written in full."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        # `split_trust` takes it out before.
        self.add_argument(TRUST, metavar="PACKAGE", default=argparse.SUPPRESS, help=TRUST_HELP)

    def format_help(self) -> str:
        """Return the help, with examples at its end."""
        examples = "".join(f"  {line}\n" for line in EXAMPLES.get(self.prog.split()[-1], ()))
        return f"{super().format_help()}\nexamples:\n{examples}"

    def add_model_of_index(self) -> None:
        """Take where the model of an index is, and what computes it."""
        self.add_argument("--model", help="where the model of the index is now, if it has moved")
        self.add_runtime()

    def add_runtime(self) -> None:
        """Take what computes a model."""
        self.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
        self.add_argument(
            "--runtime",
            choices=("torch", "onnx"),
            default="torch",
            help="onnx: ONNX Runtime, for an export with format=onnx (default: torch)",
        )

    def parse(self) -> argparse.Namespace:
        """Parse the command line.

        Raises:
            SystemExit: With code 2, if it is wrong; suggests the nearest option.
        """
        found, unknown = self.parse_known_intermixed_args()
        if unknown:
            word = unknown[0].partition("=")[0]
            options = [name for action in self._actions for name in action.option_strings]
            hint = did_you_mean(word, options)
            self.error(f"expected an option (--help lists them), got {word!r}{hint}")
        return found
