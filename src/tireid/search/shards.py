"""Shards: what one of several processes has embedded, until it is merged into the index."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from tireid.search.engines.embedded import EmbeddedEngine
from tireid.search.engines.interface import Engine, Row
from tireid.search.engines.opening import EMBEDDED
from tireid.search.scenes import Scenes, SceneState, remove_others
from tireid.search.settings import FILE, IndexSettings, index_lock, read_settings
from tireid.search.writing import IndexReport

FOLDER = "shards"
_AT_ONCE = 500


def shard_settings(settings: IndexSettings) -> IndexSettings:
    """Return the settings of an index's shards: float32, so that vectors are rounded once."""
    return replace(settings, engine=EMBEDDED, storage="float32")


class ShardEngine(EmbeddedEngine):
    """Writes to a shard; also knows the rows and vectors of the index, which stays as it is.

    Args:
        folder: Folder of the shard.
        index: The index.
        dim: Width of the vectors.
    """

    def __init__(self, folder: Path, index: Engine, dim: int) -> None:
        super().__init__(folder, dim, "float32")
        self._index = index

    def get(self, ids: Sequence[int]) -> dict[int, Row]:
        """See `Engine.get`."""
        return self._index.get(ids) | super().get(ids)

    def vectors(self, digests: Sequence[str]) -> dict[str, Float[Tensor, " dim"]]:
        """See `Engine.vectors`."""
        return super().vectors(digests) | self._index.vectors(digests)

    def of_files(self, paths: Sequence[str]) -> list[Row]:
        """See `Engine.of_files`."""
        rows = {row.id: row for row in (*self._index.of_files(paths), *super().of_files(paths))}
        return list(rows.values())


class ShardScenes(Scenes):
    """Keeps states in a shard; also knows those of the index.

    Args:
        folder: Folder of the shard.
        index: Folder of the index.
    """

    def __init__(self, folder: Path, index: Path) -> None:
        super().__init__(folder)
        self._index = Scenes(index)

    def get(self, path: str) -> SceneState | None:
        """See `Scenes.get`."""
        return super().get(path) or self._index.get(path)


def merge_shards(folder: Path, settings: IndexSettings, engine: Engine) -> IndexReport:
    """Move the rows of all shards into their index; killed, it is done again without harm.

    Args:
        folder: Folder of the index.
        settings: Of the index.
        engine: Of the index.

    Returns:
        What was added, updated and embedded.

    Raises:
        ValueError: If a shard is of another model, lies elsewhere, or is being written.
    """
    report = IndexReport()
    for shard in sorted((folder / FOLDER).glob("[0-9]*")):
        if shard.resolve() != folder.resolve() / FOLDER / shard.name:
            raise ValueError(
                f"{shard}: expected a folder inside of {folder}, got a link; remove it"
            )
        with index_lock(shard):
            if (shard / FILE).is_file():
                found, expected = read_settings(shard), shard_settings(settings)
                if replace(found, model="") != replace(expected, model=""):
                    raise ValueError(
                        f"{shard}: expected a shard of the model {settings.fingerprint[:12]}, got "
                        f"one of {found.fingerprint[:12]} or with other settings; delete it"
                    )
                _merge(EmbeddedEngine(shard, settings.dim, "float32"), engine, report)
                _merge_scenes(Scenes(shard), Scenes(folder), engine, report)
            shutil.rmtree(shard)
    return report


def _merge(shard: EmbeddedEngine, engine: Engine, report: IndexReport) -> None:
    try:
        rows: list[Row] = []
        for row in shard.rows():
            rows.append(row)
            if len(rows) == _AT_ONCE:
                _move(rows, shard, engine, report)
                rows = []
        _move(rows, shard, engine, report)
    finally:
        shard.close()


def _merge_scenes(shard: Scenes, scenes: Scenes, engine: Engine, report: IndexReport) -> None:
    """Say in the index what was looked through; people of an earlier content are removed first."""
    for state in shard.all():
        if state.until is None:
            report.removed += remove_others(engine, state.path, state)
        scenes.keep(state)
        report.scenes += 1


def _move(rows: Sequence[Row], shard: Engine, engine: Engine, report: IndexReport) -> None:
    if not rows:
        return
    digests = [row.digest for row in rows]
    known = engine.vectors(digests)  # equal files of several shards get one vector
    vectors = shard.vectors(digests) | known
    before = engine.get([row.id for row in rows])
    engine.add(rows, torch.stack([vectors[digest] for digest in digests]))
    report.added += len(rows) - len(before)
    report.updated += sum(row.digest != before[row.id].digest for row in rows if row.id in before)
    report.embedded += len(set(digests) - set(known))
