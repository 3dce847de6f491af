"""One message for what goes wrong in a command that takes options."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tireid.console import complain

_ADVICE = {  # by the kinds of `tireid.training.shortage`
    "memory": "where the command has them, give a smaller --batch-size, or --workers 0",
    "files": (
        "too many open files; allow this shell more (ulimit -n 4096), or read images without "
        "processes of their own: --workers 0"
    ),
    "worker": "a process that reads images has ended; --workers 0 reads without such processes",
    "disk": "make room there, or choose a folder on another disk, and start the command again",
    "closed": "choose a folder that may be written to",
}


@contextmanager
def one_message(exit_code: int = 1) -> Iterator[None]:
    """Turn an error about the user's input or the machine, in the block, into one message.

    Args:
        exit_code: Exit code of such an error; others keep their traceback.
    """
    try:
        yield
    except Exception as error:
        from tireid.training.shortage import shortage  # late: the help needs no torch

        message = shortage(error, _ADVICE)
        if message is None and not isinstance(error, ValueError | OSError):
            raise
        complain(message or str(error))
        sys.exit(exit_code)
