"""A signal ends the process at once, or is remembered while training holds it."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from tireid.checkpoints import stop_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_the_process_with_75_and_is_named(number):
    stop_signals.listen()
    with pytest.raises(stop_signals.Stopped) as stopped:
        os.kill(os.getpid(), number)
    assert stopped.value.code == stop_signals.EXIT_CODE == 75
    assert stopped.value.message.startswith(f"stopped by {signal.Signals(number).name}: ")


def test_a_held_signal_is_remembered_until_it_is_asked_for():
    stop_signals.listen()
    stop_signals.hold()
    assert not stop_signals.requested()
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop_signals.requested()
    with pytest.raises(stop_signals.Stopped) as stopped:
        stop_signals.stop("all is saved")
    assert stopped.value.message == "stopped by SIGUSR1: all is saved"  # the first one


def test_a_second_signal_does_not_disturb_the_end():
    stop_signals.listen()
    with pytest.raises(stop_signals.Stopped):
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("times", "code"), [(1, 75), (2, 130)])
def test_ctrl_c_ends_as_a_signal_does_and_the_second_ends_at_once(times, code):
    """In a process of its own, which a notebook's is not: there Ctrl-C stays Python's."""
    program = (
        "import os, signal, time\n"
        "from tireid.checkpoints import stop_signals\n"
        "stop_signals.listen(interrupts=True); stop_signals.hold()\n"
        f"for _ in range({times}): os.kill(os.getpid(), signal.SIGINT)\n"
        "assert stop_signals.requested()\n"
        "try: stop_signals.stop('all is saved')\n"
        "except stop_signals.Stopped as stopped: print(stopped.message); raise\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == code
    assert (done.stdout, done.stderr) == (
        ("stopped by SIGINT: all is saved\n", "")
        if times == 1
        else ("", "stopped at once; the last checkpoint stands\n")
    )
    before = signal.getsignal(signal.SIGINT)
    stop_signals.listen()
    assert signal.getsignal(signal.SIGINT) is before


def test_released_signals_end_the_process_again():
    stop_signals.listen()
    stop_signals.hold()
    stop_signals.release()
    with pytest.raises(stop_signals.Stopped):
        os.kill(os.getpid(), signal.SIGTERM)


def test_the_next_run_of_a_process_knows_nothing_of_it():
    stop_signals.listen()
    stop_signals.hold()
    os.kill(os.getpid(), signal.SIGTERM)
    stop_signals.reset()
    assert not stop_signals.requested()
    with pytest.raises(stop_signals.Stopped, match="75"):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_rank_that_no_signal_reached_stops_with_the_others():
    with pytest.raises(stop_signals.Stopped) as stopped:
        stop_signals.stop("all is saved")
    assert stopped.value.message == "stopped by a signal: all is saved"


def test_a_thread_leaves_the_handlers_as_they_are():
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=stop_signals.listen)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
