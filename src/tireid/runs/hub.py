"""Exports on the model hub: their addresses, and their files in the hub's cache."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

# A `Path` keeps one slash.
_ADDRESS = re.compile(r"hf:/{1,2}(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


def is_hub_address(path: str | Path) -> bool:
    """Return whether this begins as `hf://OWNER/NAME` and `hf://OWNER/NAME@REVISION` do."""
    return str(path).startswith("hf:/")


def split_address(address: str | Path) -> tuple[str, str | None]:
    """Return repository and revision of an address; None: the main branch.

    Raises:
        ValueError: If this is no such address.
    """
    found = _ADDRESS.fullmatch(str(address))
    if found is None:
        raise ValueError(f"{address}: expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
    return found["name"], found["revision"]


def download(address: str | Path, files: Sequence[str]) -> Path:
    """Return the folder of the hub's cache with some files of a repository, brought up to date.

    Without a network it is what the cache has.

    Args:
        address: As `hf://OWNER/NAME`, or with a branch, tag or commit behind `@`.
        files: Names and patterns of the files; others are neither downloaded nor looked for.

    Raises:
        ValueError: If this is no such address.
        FileNotFoundError: If there is no such repository, or it cannot be reached.
    """
    name, revision = split_address(address)
    from huggingface_hub import snapshot_download  # takes a second to import

    fetch: Callable[..., str] = snapshot_download
    try:
        return Path(fetch(name, revision=revision, allow_patterns=list(files)))
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise FileNotFoundError(
            f"hf://{name}: expected a model that can be downloaded or is in the hub's "
            f"cache, got none ({type(error).__name__}: {reason}); a private one needs "
            "`hf auth login` or HF_TOKEN"
        ) from error


def root_of(folder: Path) -> Path:
    """Return the folder that a folder's files must lie in, links followed.

    It is the folder itself, or that of a repository in the hub's cache, which links its snapshots
    to the files beside them.
    """
    real = folder.resolve()
    in_cache = real.parent.name == "snapshots" and real.parent.parent.name.startswith("models--")
    return real.parents[1] if in_cache else real
