"""argparse that answers a mistyped option with the nearest one."""

import argparse
from collections.abc import Iterable
from typing import Any

from tireid.cli.commands import did_you_mean


class Parser(argparse.ArgumentParser):
    """As `argparse.ArgumentParser`; options must be written in full.

    Args:
        options: As there.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Parse the command line.

        Raises:
            SystemExit: With code 2, if it is wrong; suggests the nearest option.
        """
        found, unknown = self.parse_known_intermixed_args(
            None if args is None else list(args), namespace
        )
        if unknown:
            word = unknown[0].partition("=")[0]
            options = [name for action in self._actions for name in action.option_strings]
            self.error(
                f"expected one of the options below --help, got {word!r}"
                f"{did_you_mean(word, options)}"
            )
        return found
