"""One message for what goes wrong in a command that takes options."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tireid.console import complain


@contextmanager
def one_message(exit_code: int = 1) -> Iterator[None]:
    """Turn an error about the user's input or the machine, in the block, into one message.

    Args:
        exit_code: Exit code of such an error; others keep their traceback.
    """
    try:
        yield
    except Exception as error:
        from tireid.training.shortage import OPTIONS, shortage  # late: the help needs no torch

        message = shortage(error, OPTIONS)
        if message is None and not isinstance(error, ValueError | OSError):
            raise
        complain(message or str(error))
        sys.exit(exit_code)
