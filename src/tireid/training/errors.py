"""Report errors about user input in one message, and record the failures of runs."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.errors import InstantiationException
from lightning.fabric.utilities.exceptions import MisconfigurationException

from tireid.console import complain, show_warnings_in_one_line
from tireid.inference.build import SETTINGS_ERRORS
from tireid.runs.failure import FAILURE_FILE, write_failure
from tireid.training import processes
from tireid.training.shortage import shortage

TRACEBACK_VARIABLE = "TIREID_TRACEBACK"
BAD_INPUT = (ValueError, OSError, FloatingPointError, MisconfigurationException)


def root_cause(error: BaseException) -> BaseException:
    """Return the error that a class named by a config has raised, else the error itself."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


@contextmanager
def recorded_failure(folder: Path, *, keep: bool = False) -> Iterator[None]:
    """Write `failure.json` if the block raises an error; remove an older one if it does not.

    Ctrl-C, a signal or an exit is no failure of the run.

    Args:
        folder: The run folder.
        keep: Whether an older record stays if the block raises nothing.
    """
    try:
        yield
    except Exception as error:
        cause = root_cause(error)
        text = "".join(traceback.format_exception(error))
        write_failure(folder, type(cause).__name__, str(cause).strip(), text)
        raise
    if not keep:
        (folder / FAILURE_FILE).unlink(missing_ok=True)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn an error about the user's input, in the block, into one message and exit code 1.

    `TIREID_TRACEBACK=1` shows the traceback. Other errors, which may be ours, keep it. Warnings
    are printed in one line, without their place in the code.
    """
    show_warnings_in_one_line()
    try:
        yield
    except Exception as error:
        message = clear_message(error)
        if message is None:
            raise
        if processes.is_first_to_report(message):
            complain(message, f"{TRACEBACK_VARIABLE}=1 shows where it was raised.")
        processes.wait_for_reports(message)
        sys.unraisablehook = lambda _: None  # what is half made complains as it is taken down
        sys.exit(1)


def clear_message(error: Exception) -> str | None:
    """Return the message for an error about the user's input or the machine, or for a lost rank.

    None for other errors, and for all with `TIREID_TRACEBACK=1`.
    """
    if os.environ.get(TRACEBACK_VARIABLE):
        return None
    if message := shortage(error):
        return message
    cause = root_cause(error)
    if isinstance(error, InstantiationException) and not isinstance(cause, BAD_INPUT):
        cause = error  # a value of a wrong type or size; Hydra's message names the setting
    if isinstance(cause, (*BAD_INPUT, *SETTINGS_ERRORS)):
        return str(cause).strip() or type(cause).__name__
    return processes.lost_contact(error)
