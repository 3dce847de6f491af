"""The command `tireid`: it imports only the subcommand that is asked for."""

import os
import shlex
import signal
import sys
from typing import NoReturn

from tireid.cli.arguments import split_trust
from tireid.cli.commands import COMMANDS, WITHOUT_HYDRA, did_you_mean
from tireid.cli.hydra_app import as_overrides, check_options, run_command
from tireid.runs.launcher_variables import check_variables

_OPTIONS = {
    ("-h", "--help"): "Show this help and exit.",
    ("--version",): "Show the version and exit.",
    ("-sc", "--shell-completion"): 'Complete in bash: eval "$(tireid -sc install=bash)"',
}
HELP, _VERSION, COMPLETION = _OPTIONS
# Threads that wait for one another look a moment (GNU's OpenMP counts, LLVM's takes milliseconds),
# then sleep. By default they look for long, and beside other work take the core from the thread
# that is waited for; to sleep at once would cost idle cores a tenth of their speed. Read as torch
# is loaded.
_THREADS = {"GOMP_SPINCOUNT": "5000", "KMP_BLOCKTIME": "1"}
_INTERRUPTED = 128 + signal.SIGINT  # as shells say it


def main() -> None:
    """Run `tireid COMMAND [ARGUMENTS]`; Ctrl-C ends it with one line.

    Raises:
        SystemExit: With code 2, if there is no such command.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.update(_THREADS | os.environ)
    try:
        _run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("stopped by Ctrl-C\n")
        sys.exit(_INTERRUPTED)


def _run(arguments: list[str]) -> None:
    name = arguments[0] if arguments else ""
    if not name or name in HELP:
        sys.stdout.write(_help())
        sys.exit(0 if name else 2)
    if name in _VERSION:
        from tireid import __version__

        sys.stdout.write(f"tireid {__version__}\n")
        sys.exit(0)
    if name not in COMPLETION and name not in COMMANDS:
        _refuse(arguments)
    options = arguments if name in COMPLETION else arguments[1:]
    if any(option in options for option in COMPLETION):
        from tireid.cli.completion import complete

        complete(options)
    else:
        options, packages = split_trust(options)
        try:
            check_variables()
            _trust(packages)
        except (ValueError, OSError) as error:
            sys.stderr.write(f"error: {error}\n")
            sys.exit(1)
        # What argparse and Hydra take for the program's name.
        sys.argv = [f"tireid {name}", *as_overrides(name, options)]
        if name not in WITHOUT_HYDRA:
            check_options(name)
            if any(word in HELP for word in sys.argv[1:]):
                from tireid.cli.help import command_help

                sys.stdout.write(command_help(name))
                return
        run_command(name)


def _trust(packages: list[str]) -> None:
    if packages:
        from tireid.inference.trust import remember

        file = remember(packages)
        sys.stderr.write(f"trusted from now on: {', '.join(packages)} (in {file})\n")


def _help() -> str:
    options = {", ".join(spellings): what for spellings, what in _OPTIONS.items()}
    width = max(map(len, [*COMMANDS, *options]))
    commands, rest = (
        "\n".join(f"  {name:<{width}}  {what}" for name, what in table.items())
        for table in (COMMANDS, options)
    )
    return (
        f"usage: tireid COMMAND [ARGUMENTS]\n\ncommands:\n{commands}\n\noptions:\n{rest}\n\n"
        "tireid COMMAND --help tells more.\n"
    )


def _refuse(arguments: list[str]) -> NoReturn:
    name = arguments[0]
    options = [spelling for spellings in _OPTIONS for spelling in spellings]
    hint = did_you_mean(name, options if name.startswith("-") else COMMANDS)
    if not hint and ("=" in name or name.startswith("-")):
        hint = f"; did you mean tireid {shlex.join(['train', *arguments])}?"
    sys.stderr.write(f"tireid: expected a command, got {name!r}{hint}\n\n{_help()}")
    sys.exit(2)
