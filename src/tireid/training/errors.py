"""Report errors about user input in one message, and record failures."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.errors import InstantiationException

from tireid.runs.failure import FAILURE_FILE, write_failure


def root_cause(error: BaseException) -> BaseException:
    """Return what was raised inside a class that a config named, else the error itself."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


@contextmanager
def recorded_failure(folder: Path, *, keep: bool = False) -> Iterator[None]:
    """Leave a record of an error in a run folder and raise it on; remove an older one on success.

    Being stopped (Ctrl-C, a signal, an exit) is no failure of the run.

    Args:
        folder: The run folder.
        keep: Whether an older record stays even so.
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
