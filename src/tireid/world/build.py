"""Build the folder of a synthetic world once, for all processes that ask."""

import hashlib
import json
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tireid.files import available_cores, build_once
from tireid.world.identities import make_population
from tireid.world.layouts import CUHK_FOLDERS, write_annotations
from tireid.world.settings import WorldSettings
from tireid.world.workers import make_rows

_LISTING = "listing.sha256"  # in a world's folder


def world_key(settings: WorldSettings) -> str:
    """Return the folder name of a world: its layout and a hash of its settings and of this code."""
    digest = hashlib.sha256(json.dumps(settings.to_dict(), sort_keys=True).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return f"{settings.layout}-{digest.hexdigest()[:12]}"


def is_whole(folder: Path) -> bool:
    """Return whether a world's folder holds the files that were drawn, none missing or cut off."""
    listing = folder / _LISTING
    return listing.is_file() and listing.read_text(encoding="utf-8") == _list(folder)


def _list(folder: Path) -> str:
    """Return a hash of the names and sizes of all files of a world."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != _LISTING)
    lines = sorted(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}" for path in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def ensure_world(
    cache_dir: str | Path,
    settings: WorldSettings,
    *,
    progress: bool = True,
    num_workers: int | None = None,
) -> Path:
    """Return the folder of a world, built first if it is not there whole (see `files.build_once`).

    Args:
        cache_dir: Folder of the worlds; created if missing.
        settings: Settings of the world.
        progress: Whether to show on standard error what is built, where, and how far it is. Silent
            if the world is there.
        num_workers: Processes that draw; None: as many as this process may use cores. The result
            does not depend on it.

    Returns:
        The absolute path of the data set's root: annotation file, `imgs/`, `ground_truth.jsonl`,
        `settings.json` and `listing.sha256`.

    Raises:
        ValueError: If `num_workers` is below 1.
        OSError: If the folder cannot be written; names it and how to choose another.
    """
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers: expected at least 1, got {num_workers}; or leave it out")
    folder = Path(cache_dir).expanduser().absolute() / world_key(settings)
    if is_whole(folder):
        return folder
    console = Console(stderr=True, quiet=not progress, highlight=False, soft_wrap=True)

    def build(work: Path) -> None:
        console.print(
            f"Drawing {settings.num_ids * settings.images_per_id} synthetic images of "
            f"{settings.num_ids} identities, with captions, once, in {folder}"
        )
        _build(work, settings, console, num_workers or available_cores())
        (work / _LISTING).write_text(_list(work), encoding="utf-8")

    def say_wait() -> None:
        console.print(f"Another process is drawing {folder}; waiting for it.")

    if folder.is_dir():
        console.print(f"{folder} is damaged: files are missing or cut off; it is drawn again")
    try:
        build_once(folder, build, is_whole=is_whole, on_wait=say_wait)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            error.errno,
            f"the synthetic data set cannot be written to {folder.parent}: {reason}. Expected a "
            f"writable folder with about {_megabytes(settings)} MB free; choose another with "
            "paths.cache_dir=FOLDER (in Python: the first argument of ensure_world)",
        ) from error
    return folder


def _build(work: Path, settings: WorldSettings, console: Console, num_workers: int) -> None:
    """Draw a world into an empty folder."""
    (work / "imgs").mkdir()
    if settings.layout == "cuhk_pedes":
        for name in CUHK_FOLDERS:
            (work / "imgs" / name).mkdir()
    population = make_population(settings)
    with Progress(console=console, disable=console.quiet) as bar:
        task = bar.add_task("drawing", total=settings.num_ids * settings.images_per_id)
        rows = make_rows(
            work, settings, population, num_workers, lambda done: bar.advance(task, done)
        )
    write_annotations(work, settings, rows)


def _megabytes(settings: WorldSettings) -> int:
    """Return a generous guess of the size of a world on disk."""
    height, width = settings.image_size
    images = settings.num_ids * settings.images_per_id
    return 1 + round(images * (4096 + 0.4 * height * width + 2048) / 1e6)
