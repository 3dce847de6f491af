"""Open an engine by its name."""

from pathlib import Path

from tireid.search.engines.embedded import EmbeddedEngine
from tireid.search.engines.interface import Engine
from tireid.search.settings import IndexSettings

ENGINES = ("embedded",)


def open_engine(folder: Path, settings: IndexSettings, *, read_only: bool = False) -> Engine:
    """Open the engine of an index.

    Args:
        folder: Folder of the index.
        settings: What it was made with.
        read_only: Whether nothing is made or changed.

    Raises:
        ValueError: If there is no engine of this name, or its data are damaged.
        FileNotFoundError: If its data are missing.
    """
    if settings.engine not in ENGINES:
        raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {settings.engine!r}")
    return EmbeddedEngine(folder, settings.dim, settings.storage, read_only=read_only)
