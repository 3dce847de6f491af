"""SIGTERM, and SIGUSR1 of batch systems: finish the step, write a checkpoint, exit to be requeued.

While a model is fitted a signal is remembered only; whoever holds it asks `requested` at the next
good moment, between two steps or two batches of a validation. At any other time it ends the process
at once.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: batch systems can requeue on it
_NAMES = ("SIGTERM", "SIGUSR1")


class Stopped(SystemExit):
    """The process was asked to stop; what it was asked by and what it left is in the message."""

    def __init__(self, message: str, code: int = EXIT_CODE) -> None:
        super().__init__(code)
        self.message = message


class _State:
    name = ""
    held = False
    stopping = False
    forward: Callable[[int], None] | None = None


def listen(forward: Callable[[int], None] | None = None) -> None:
    """Take the signals over, in the main thread; elsewhere they stay as they are.

    Args:
        forward: Called with the first signal's number, to pass it on to child processes.
    """
    _State.forward = forward or _State.forward
    if threading.current_thread() is threading.main_thread():
        for name in _NAMES:
            if hasattr(signal, name):  # Windows has no SIGUSR1
                signal.signal(getattr(signal, name), _on_signal)


def reset() -> None:
    """Forget what an earlier run of this process was told."""
    _State.name, _State.held, _State.stopping, _State.forward = "", False, False, None


def hold() -> None:
    """From now on remember a signal instead of stopping."""
    _State.held = True


def release() -> None:
    """From now on stop at once."""
    _State.held = False


def requested() -> bool:
    """Return whether a signal has come."""
    return bool(_State.name)


def stop(left: str, code: int = EXIT_CODE) -> NoReturn:
    """Leave the process.

    Args:
        left: What the run left, for the message.
        code: The process's exit code.

    Raises:
        Stopped: Always.
    """
    _State.stopping = True
    raise Stopped(f"stopped by {_State.name or 'a signal'}: {left}", code)


def _on_signal(number: int, _: FrameType | None) -> None:
    first = not _State.name
    _State.name = _State.name or signal.Signals(number).name
    if first and _State.forward is not None:
        _State.forward(number)
    if not _State.held and not _State.stopping:
        stop("the last checkpoint, if there was one, stands; the same settings continue it")
