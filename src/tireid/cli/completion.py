"""Tab completion: Hydra's, preceded by the names of the commands."""

import os
import sys

from tireid.cli.arguments import TRUST
from tireid.cli.commands import COMMANDS, WITHOUT_HYDRA
from tireid.cli.hydra_app import OPTIONS, run_command


def complete(arguments: list[str]) -> None:
    """Answer `-sc install=SHELL`, `uninstall=SHELL` or `query=SHELL`, as Hydra spells them.

    The shell's question lies in `COMP_LINE`, the line that was typed so far.

    Args:
        arguments: Those of `tireid`, without the command's name.
    """
    command = "train"  # installing is the same for all of them
    if any(word.startswith("query=") for word in arguments):
        line = os.environ.get("COMP_LINE", "")
        words = line.split(maxsplit=2)
        if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
            _offer(COMMANDS, words[1] if len(words) == 2 else "")
            return
        command, rest = words[1], words[2] if len(words) == 3 else ""
        last = "" if rest.endswith(" ") else rest.rpartition(" ")[2]
        if command not in COMMANDS or command in WITHOUT_HYDRA:
            return  # bash offers files
        if last.startswith("--"):
            _offer((*OPTIONS, TRUST), last)
            return
        os.environ["COMP_LINE"] = f"tireid {rest}"
    sys.argv = ["tireid", *arguments]
    run_command(command)


def _offer(words: tuple[str, ...] | dict[str, str], start: str) -> None:
    sys.stdout.write("\n".join(word for word in words if word.startswith(start)) + "\n")
