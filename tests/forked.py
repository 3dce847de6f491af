"""Commands in processes forked from one that has imported the package, which takes seconds."""

import atexit
import multiprocessing as mp
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_only

_CONTEXT = mp.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.forked", "tireid.training.run"])


class Command:
    """A module or file that runs as Python would run it; as `subprocess.Popen`, as far as it goes.

    Args:
        words: The module, or a file, and its arguments.
        cwd: Folder to run in.
        env: All of its environment; None: this process's. It is the first of a session.
        limits: Limits of `resource.setrlimit`, by their number.
        merged: Whether what it says to standard error stands in its standard output.
        before: Code that it runs first.
    """

    def __init__(
        self,
        words: Sequence[str | Path],
        cwd: str | Path,
        env: Mapping[str, str] | None = None,
        limits: Mapping[int, int] | None = None,
        *,
        merged: bool = False,
        before: str = "",
    ) -> None:
        self.args = list(map(str, words))
        self._folder = tempfile.TemporaryDirectory(prefix="forked-")
        self._files = [Path(self._folder.name, name) for name in ("out", "err")]
        said = [str(self._files[0]), str(self._files[0] if merged else self._files[1])]
        known = dict(os.environ if env is None else env)
        arguments = self.args, before, str(cwd), known, limits or {}, said
        self._process = _CONTEXT.Process(target=_run, args=arguments)
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """As that of `subprocess.Popen`."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait until it has ended; return its standard output and standard error."""
        self._process.join(timeout)
        if self.poll() is None:
            self.kill()
            self._process.join()
            raise subprocess.TimeoutExpired(self.args, timeout)
        out, err = (file.read_text() if file.exists() else "" for file in self._files)
        self._folder.cleanup()
        return out, err

    def finish(self, timeout: float = 560) -> subprocess.CompletedProcess[str]:
        """Wait until it has ended; return what `subprocess.run` would."""
        out, err = self.communicate(timeout)
        return subprocess.CompletedProcess(self.args, self.poll() or 0, out, err)


def _run(
    words: Sequence[str],
    before: str,
    cwd: str,
    env: Mapping[str, str],
    limits: Mapping[int, int],
    files: Sequence[str],
) -> None:
    """Be the process of a command, from its first line on."""
    for number, file in zip((1, 2), files, strict=True):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.dup2(os.pipe()[0], 0)  # nobody ever answers
    sys.stdin = os.fdopen(0, closefd=False)
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))
    rank_zero_only.rank = int(env.get("SLURM_PROCID", env.get("RANK", "0")))  # as the import does
    if "OMP_NUM_THREADS" in env:  # which is read as torch is loaded
        torch.set_num_threads(int(env["OMP_NUM_THREADS"]))
    sys.argv = list(words)
    sys.path.insert(0, cwd)
    mp.set_start_method(None, force=True)  # else its own processes would start as it did
    exec(before)  # noqa: S102
    try:
        if words[0].endswith(".py"):
            runpy.run_path(words[0], run_name="__main__")
        else:
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()
