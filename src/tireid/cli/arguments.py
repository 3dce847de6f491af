"""argparse that answers a mistyped option with the nearest one."""

import argparse
from typing import Any

from tireid.cli.commands import did_you_mean


class Parser(argparse.ArgumentParser):
    """As `argparse.ArgumentParser`, whose options it takes; options must be written in full."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

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
