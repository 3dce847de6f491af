"""The command `tireid`: it names the others, and imports only the one that is asked for."""

import difflib
import importlib
import sys

COMMANDS = {
    "train": "Train a method, test the chosen checkpoint, write a run folder.",
    "evaluate": "Evaluate a run or a checkpoint on a split.",
    "compare": "Print one table of many runs and write a report.",
    "tune": "Search hyperparameters.",
    "explain": "Draw what a model looks at.",
    "export": "Write a model for tireid.load.",
    "convert": "Make a run folder from an official checkpoint.",
    "dashboard": "Create or update a report on Weights & Biases.",
}


def main() -> None:
    """Run `tireid COMMAND [ARGUMENTS]`.

    Raises:
        SystemExit: With code 2, if there is no such command.
    """
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in ("", "-h", "--help"):
        sys.stdout.write(_help())
        sys.exit(0 if name else 2)
    if name not in COMMANDS:
        sys.stderr.write(f"tireid: expected a command, got {name!r}{_nearest(name)}\n\n{_help()}")
        sys.exit(2)
    del sys.argv[1]
    importlib.import_module(f"tireid.cli.{name}").main()


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return (
        "usage: tireid COMMAND [ARGUMENTS]\n\n"
        + "\n".join(lines)
        + "\n\ntireid COMMAND --help tells more.\n"
    )


def _nearest(name: str) -> str:
    found = difflib.get_close_matches(name, COMMANDS, n=1)
    return f"; did you mean {found[0]}?" if found else ""
