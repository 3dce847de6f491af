"""The synthetic data set: drawn images and written captions, read from files like any other."""

from pathlib import Path
from typing import Any

from tireid.data.layouts import READERS
from tireid.data.records import Splits
from tireid.files import resolve_cache_dir

SYNTHETIC = "synthetic"  # its name


def read_synthetic(
    cache_dir: str | Path | None,
    *,
    layout: str = "cuhk_pedes",
    world_seed: int = 0,
    progress: bool = True,
    **settings: Any,
) -> Splits:
    """Read the synthetic data set, drawing it first if it is not in the cache.

    Args:
        cache_dir: Folder to keep it in; None means `tireid/` below `XDG_CACHE_HOME` or `~/.cache`.
        layout: Data set whose file layout is used: `cuhk_pedes`, `icfg_pedes` or `rstpreid`.
        world_seed: Seed of the identities; independent of the seed of a training.
        progress: Whether to show a progress bar while it is drawn.
        **settings: The other fields of `tireid.world.WorldSettings`.

    Returns:
        Records for each split.

    Raises:
        ValueError: If a setting is out of its range.
    """
    from tireid.world import WorldSettings, ensure_world  # late: who only embeds draws nothing

    world = WorldSettings(layout=layout, seed=world_seed, **settings)
    root = ensure_world(resolve_cache_dir(cache_dir), world, progress=progress)
    # ICFG-PEDES has no val split: its validation identities are among the training identities.
    val_fraction = world.num_val_ids / (world.num_train_ids + world.num_val_ids)
    return READERS[layout](root, val_fraction=val_fraction, split_seed=world_seed)


def find_synthetic(
    cache_dir: str | Path | None,
    *,
    layout: str = "cuhk_pedes",
    world_seed: int = 0,
    progress: bool = True,
    **settings: Any,
) -> Path | None:
    """Return the folder of `read_synthetic`'s files; None if they are not there, all of them.

    Args:
        cache_dir: As in `read_synthetic`.
        layout: As in `read_synthetic`.
        world_seed: As in `read_synthetic`.
        progress: Not used; nothing is drawn.
        **settings: As in `read_synthetic`.
    """
    from tireid.world.build import is_whole, world_key
    from tireid.world.settings import WorldSettings

    world = WorldSettings(layout=layout, seed=world_seed, **settings)
    root = resolve_cache_dir(cache_dir) / world_key(world)
    return root if is_whole(root) else None
