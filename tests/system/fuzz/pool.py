"""Run cases side by side, each in a fork of this process, with a limit on time and memory."""

import json
import os
import shutil
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from commands import OUTCOME, OUTPUT, run_case

SECONDS = 60
MEBIBYTES = 3072
_POLL_SECONDS = 0.01
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Outcome(NamedTuple):
    """How a case ended.

    Attributes:
        name: Seed and number.
        folder: Its files.
        facts: What it wrote down: what was wrong, the command, the exit code, what was noticed.
        output: What it printed.
        killed: Why it was stopped from outside; empty if it ended by itself.
        signal: Signal that ended it, or 0.
    """

    name: str
    folder: Path
    facts: dict[str, Any]
    output: str
    killed: str
    signal: int


class _Running(NamedTuple):
    name: str
    folder: Path
    began: float


def run_cases(
    names: Sequence[str], samples: Path, place: Path, *, workers: int
) -> Iterator[Outcome]:
    """Run cases and yield how each ended, in the order of their ends.

    Forks share this process's imports, and nothing that one does to its process reaches another.

    Args:
        names: Seed and number of each.
        samples: Valid files.
        place: Folder for the files of the cases.
        workers: Cases at once.
    """
    waiting, running = list(reversed(names)), dict[int, _Running]()
    while waiting or running:
        while waiting and len(running) < workers:
            name = waiting.pop()
            folder = place / name.replace(":", "_")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            running[_fork(name, samples, folder)] = _Running(name, folder, time.monotonic())
        time.sleep(_POLL_SECONDS)
        for process, case in list(running.items()):
            killed = _too_much(process, case)
            if killed:
                os.killpg(process, signal.SIGKILL)
            ended, status = os.waitpid(process, 0 if killed else os.WNOHANG)
            if ended:
                del running[process]
                yield _outcome(case, killed, os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)


def _fork(name: str, samples: Path, folder: Path) -> int:
    process = os.fork()
    if process:
        return process
    try:
        os.setsid()
        run_case(name, samples, folder)
    except BaseException:
        (folder / "fuzzer_error.txt").write_text(traceback.format_exc())
    finally:
        os._exit(0)


def _too_much(process: int, case: _Running) -> str:
    if time.monotonic() - case.began > SECONDS:
        return f"more than {SECONDS} s"
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):  # it has just ended, or there is no /proc
        return ""
    used = pages * _PAGE >> 20
    return f"more than {MEBIBYTES:,} MiB" if used > MEBIBYTES else ""


def _outcome(case: _Running, killed: str, ended_by: int) -> Outcome:
    def content(name: str) -> str:
        file = case.folder / name
        return file.read_text(errors="backslashreplace") if file.is_file() else ""

    facts = json.loads(content(OUTCOME) or "{}")
    facts["fuzzer_error"] = content("fuzzer_error.txt")
    return Outcome(
        case.name, case.folder, facts, content(OUTPUT), killed, 0 if killed else ended_by
    )
