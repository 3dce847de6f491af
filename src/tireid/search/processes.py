"""Make an index with the processes that torchrun has started, on one machine or several."""

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch.distributed.rendezvous import rendezvous

from tireid.files import file_sha256
from tireid.search.engines.interface import Row
from tireid.search.engines.opening import open_engine
from tireid.search.fields import NamePattern
from tireid.search.indexing import (
    IndexOptions,
    build_index,
    embed_changed,
    find_people,
    index_settings,
    people_search,
)
from tireid.search.parts import image_id
from tireid.search.scan import Scan
from tireid.search.scenes import Scenes
from tireid.search.settings import index_lock
from tireid.search.shards import FOLDER, ShardEngine, ShardScenes, merge_shards, shard_settings
from tireid.search.sources import Found, read_source
from tireid.search.writing import IndexReport

_TO_START = timedelta(minutes=10)
_TO_EMBED = timedelta(days=365)  # torchrun ends all processes when one fails
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Share(NamedTuple):
    """The images that one of several processes embeds.

    Attributes:
        rank: Number of the process.
        size: Number of processes.
    """

    rank: int
    size: int

    def holds(self, path: str) -> bool:
        """Whether an image is in it: by a hash of its path, so in one share of all."""
        return image_id(path) % self.size == self.rank


def build_index_together(
    sources: Sequence[str | Path],
    folder: Path,
    options: IndexOptions,
    *,
    split: Sequence[Found] = (),
) -> IndexReport | None:
    """Index some sources with all processes of torchrun; alone, as `build_index` does.

    Every process embeds its share into a shard. The first one merges them and brings the index up
    to date, so that what is gone, fields and failures are decided once.

    Args:
        sources: See `build_index` for this and the others.
        folder: See there; all machines must see it and the sources by the same paths.
        options: See there.
        split: See there.

    Returns:
        None in all processes but the first.

    Raises:
        ValueError: As `build_index`; or if a variable of torchrun is missing.
        FileNotFoundError: As `build_index`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return build_index(sources, folder, options, split=split)
    if missing := [name for name in _NEEDED if name not in os.environ]:
        raise ValueError(
            f"{missing[0]}: expected a value beside WORLD_SIZE={os.environ['WORLD_SIZE']}, as "
            "torchrun sets it, got none; to index in one process, type: unset RANK WORLD_SIZE"
        )
    store, rank, size = next(iter(rendezvous("env://", timeout=_TO_START)))
    options = _of_this_process(options)
    if rank == 0:
        prepare_index(folder, options)
        store.set("prepared", "")
    store.wait(["prepared"], _TO_EMBED)
    embed_share(sources, folder, options, Share(rank, size), split=split)
    store.set(f"embedded/{rank}", "")
    if rank != 0:
        return None
    store.wait([f"embedded/{other}" for other in range(size)], _TO_EMBED)
    return build_index(sources, folder, options, split=split)


def prepare_index(folder: Path, options: IndexOptions) -> None:
    """Make an index or check that it fits, and merge what stopped processes have embedded.

    Raises:
        ValueError: As `build_index`.
        FileNotFoundError: If the model or the detector is missing.
    """
    with index_lock(folder):
        settings, model = index_settings(folder, options)
        people_search(settings, model, Scenes(folder))  # refused before anything is written
        settings.write(folder)
        engine = open_engine(folder, settings)
        try:
            merge_shards(folder, settings, engine)
        finally:
            engine.close()


def embed_share(
    sources: Sequence[str | Path],
    folder: Path,
    options: IndexOptions,
    share: Share,
    *,
    split: Sequence[Found] = (),
) -> None:
    """Embed the images of a share that are new or changed, into a shard.

    Args:
        sources: See `build_index` for this, the next two and the last.
        folder: See there; the index is there and is only read.
        options: See there.
        share: Which images.
        split: See there.

    Raises:
        ValueError: As `build_index`.
        FileNotFoundError: As `build_index`.
    """
    named = [read_source(str(source)) for source in sources]
    shard = folder / FOLDER / str(share.rank)
    settings, model = index_settings(folder, options)
    with index_lock(shard):
        shard_settings(settings).write(shard)
        index = open_engine(folder, settings, read_only=True)
        engine = ShardEngine(shard, index, settings.dim)
        search = people_search(settings, model, ShardScenes(shard, folder))
        scenes = None if search is None else search.scenes
        scan = Scan(engine, NamePattern(options.name_pattern), folder, scenes, only=share.holds)
        try:
            scan.look_at(split)
            scan.run(named, follow_links=options.follow_links)
            report = IndexReport()
            if search is None:
                embed_changed(engine, scan, model.retriever, options, report)
            else:
                search = search._replace(leaves=partial(_is_known, search.scenes))
                find_people(engine, scan, search, model.retriever, options, report)
        finally:
            scan.close()
            engine.close()
            index.close()


def _is_known(scenes: Scenes, scene: Row) -> bool:
    """Whether a scene was touched, not changed, which the process that merges puts right."""
    state = scenes.get(scene.path)
    if state is None or state.until is not None:
        return False
    try:
        return state.digest == file_sha256(Path(scene.path))
    except OSError:
        return False


def _of_this_process(options: IndexOptions) -> IndexOptions:
    """Return the options with a GPU of its own."""
    gpus = torch.cuda.device_count()
    place = int(os.environ.get("LOCAL_RANK", "0"))
    return replace(options, device=options.device or (f"cuda:{place % gpus}" if gpus else None))
