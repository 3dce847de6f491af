"""The environment of a run: source state, package versions, device and peak memory."""

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

_LONGEST_DIFF = 2**20  # characters
PACKAGES = ["tireid", "torch", "lightning", "transformers", "torchmetrics", "numpy", "pillow"]


def source_state(folder: Path) -> dict[str, Any]:
    """Return the commit of the source tree at `folder` and whether it has local changes.

    Both are None where `folder` is not in a git work tree (an installed package).
    """
    if not _is_tracked(folder):
        return {"commit": None, "dirty": None}
    commit, changes = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain")
    return {"commit": commit, "dirty": bool(changes)}


def source_diff(folder: Path) -> str:
    """Return the local changes of the source tree at `folder` since its commit, as a patch.

    Empty where there are none, or `folder` is not in a git work tree. New files are left out, and
    what is longer than a megabyte is cut.
    """
    diff = (_git(folder, "diff", "HEAD", "--no-color") or "") if _is_tracked(folder) else ""
    return f"{diff[:_LONGEST_DIFF]}\n" if diff else ""


def _is_tracked(folder: Path) -> bool:
    return _git(folder, "ls-files", "--error-unmatch", str(Path(__file__))) is not None


def _git(folder: Path, *words: str) -> str | None:
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(  # noqa: S603 -- fixed words
            command, capture_output=True, text=True, timeout=10, check=True, errors="replace"
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


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
