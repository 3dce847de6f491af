"""Turn Ctrl-C, SIGTERM, and SIGUSR1 of batch systems, into an orderly end with exit code 75.

While a model is trained a signal is only remembered; training asks `requested` at the next good
moment, between two steps or two batches of a validation. At any other time it ends the process at
once. So does Ctrl-C for the second time, whatever the process does.
"""

import os
import signal
import threading
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: batch systems can requeue on it
_AT_ONCE = 128 + signal.SIGINT  # as shells say it
_NAMES = ("SIGTERM", "SIGUSR1")


class Stopped(SystemExit):
    """The process was asked to stop; the message says by what signal and what is left."""

    def __init__(self, message: str, code: int = EXIT_CODE) -> None:
        super().__init__(code)
        self.message = message


@dataclass
class _State:
    received: str = ""  # name of the first signal
    held: bool = False
    stopping: bool = False
    interrupts: int = 0


_state = _State()


def listen(*, interrupts: bool = False) -> None:
    """Handle the signals from now on, in the main thread; elsewhere handlers cannot be set.

    Args:
        interrupts: Whether Ctrl-C is one of them; a notebook keeps its own way of stopping.
    """
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", *_NAMES) if interrupts else _NAMES:
            if hasattr(signal, name):  # Windows has no SIGUSR1
                signal.signal(getattr(signal, name), _on_signal)


def reset() -> None:
    """Forget the signals that an earlier run of this process received."""
    global _state
    _state = _State()


def hold() -> None:
    """Remember signals from now on instead of stopping."""
    _state.held = True


def release() -> None:
    """Stop at once from now on."""
    _state.held = False


def requested() -> bool:
    """Return whether a signal was received."""
    return bool(_state.received)


def stop(left: str) -> NoReturn:
    """End the process.

    Args:
        left: What the run leaves and how to continue it, for the message.

    Raises:
        Stopped: Always.
    """
    _state.stopping = True
    raise Stopped(f"stopped by {_state.received or 'a signal'}: {left}")


def _on_signal(number: int, _: FrameType | None) -> None:
    _state.interrupts += number == signal.SIGINT
    if _state.interrupts > 1:  # without closing anything: whoever asks twice has waited
        os.write(2, b"stopped at once; the last checkpoint stands\n")
        os._exit(_AT_ONCE)
    _state.received = _state.received or signal.Signals(number).name
    if not _state.held and not _state.stopping:
        stop("the last checkpoint, if there was one, stands; the same settings continue it")
