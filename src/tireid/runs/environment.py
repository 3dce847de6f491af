"""The environment of a run: source state, package versions, device and peak memory."""

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

PACKAGES = ["tireid", "torch", "lightning", "transformers", "torchmetrics", "numpy", "pillow"]


def source_state(folder: Path) -> dict[str, Any]:
    """Return the commit of the source tree at `folder` and whether it has local changes.

    Both are None where `folder` is not in a git work tree (an installed package).
    """

    def git(*words: str) -> str | None:
        command = ["git", "-C", str(folder), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 -- fixed words
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    if git("ls-files", "--error-unmatch", str(Path(__file__))) is None:
        return {"commit": None, "dirty": None}
    return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect a result."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = "not installed"
    return installed


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or the architecture and threads of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{platform.machine()} CPU, {threads} thread{'' if threads == 1 else 's'}"


def peak_memory_mib(device: torch.device) -> float:
    """Return the process's peak memory so far, in MiB: the GPU's, else the resident set.

    NaN on systems without the `resource` module.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return float("nan")
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
