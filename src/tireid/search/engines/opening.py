"""Open an engine by its name."""

from pathlib import Path

from tireid.search.engines.embedded import EmbeddedEngine
from tireid.search.engines.interface import Engine
from tireid.search.settings import IndexSettings

EMBEDDED = "embedded"
_MILVUS = "milvus:"


def default_storage(engine: str | None) -> str:
    """Return how an engine keeps vectors if nothing is said."""
    return "float32" if engine is not None and engine.startswith(_MILVUS) else "float16"


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
    if settings.engine.startswith(_MILVUS):
        if settings.storage != "float32":
            raise ValueError(f"storage: expected float32 with milvus, got {settings.storage}")
        from tireid.search.engines.milvus import MilvusEngine  # late: it may not be installed

        return MilvusEngine(settings.engine, settings.dim, read_only=read_only)
    if settings.engine != EMBEDDED:
        raise ValueError(
            f"engine: expected {EMBEDDED} or milvus://HOST:PORT/COLLECTION, got {settings.engine!r}"
        )
    return EmbeddedEngine(folder, settings.dim, settings.storage, read_only=read_only)
