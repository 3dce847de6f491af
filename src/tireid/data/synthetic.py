"""The embedded data set: made people in made pictures, read from files like any other."""

from pathlib import Path
from typing import Any

from tireid.data.cuhk_pedes import read_cuhk_pedes
from tireid.data.icfg_pedes import read_icfg_pedes
from tireid.data.records import Splits
from tireid.data.rstp_reid import read_rstp_reid
from tireid.files import resolve_cache_dir
from tireid.world import WorldSettings, ensure_world
from tireid.world.build import world_key

_READERS = {
    "cuhk_pedes": read_cuhk_pedes,
    "icfg_pedes": read_icfg_pedes,
    "rstpreid": read_rstp_reid,
}


def read_synthetic(
    cache_dir: str | Path | None,
    *,
    layout: str = "cuhk_pedes",
    world_seed: int = 0,
    progress: bool = True,
    **settings: Any,
) -> Splits:
    """Read the embedded data set, making it first if it is not in the cache.

    Args:
        cache_dir: Folder to keep it in; None means `tireid/` below `XDG_CACHE_HOME` or `~/.cache`.
        layout: Whose files to write and read: `cuhk_pedes`, `icfg_pedes` or `rstpreid`.
        world_seed: Selects the people; has nothing to do with the seed of a training.
        progress: Whether to show a progress bar while it is made.
        **settings: The other fields of `tireid.world.WorldSettings`.

    Returns:
        Records for each split.

    Raises:
        ValueError: If a setting is out of its range.
    """
    world = WorldSettings(layout=layout, seed=world_seed, **settings)
    root = ensure_world(resolve_cache_dir(cache_dir), world, progress=progress)
    # ICFG-PEDES has no val split: there the validation people are among the training people.
    val_fraction = world.num_val_ids / (world.num_train_ids + world.num_val_ids)
    return _READERS[layout](root, val_fraction=val_fraction, split_seed=world_seed)


def made_root(
    cache_dir: str | Path | None,
    *,
    layout: str = "cuhk_pedes",
    world_seed: int = 0,
    **settings: Any,
) -> Path:
    """Return where `read_synthetic` keeps its files, whether they are there or not.

    Args:
        cache_dir: As `read_synthetic` takes it; so are the others.
        layout: Whose files.
        world_seed: Of the people.
        **settings: The other fields of `tireid.world.WorldSettings`.
    """
    world = WorldSettings(layout=layout, seed=world_seed, **settings)
    return resolve_cache_dir(cache_dir) / world_key(world)
