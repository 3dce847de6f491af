"""The folder that keeps what can be made again: the embedded data set, notes on checked images."""

import os
from pathlib import Path


def resolve_cache_dir(cache_dir: str | Path | None) -> Path:
    """Return an absolute folder; None means `tireid/` below `XDG_CACHE_HOME` or `~/.cache`."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "tireid"
