"""`ensure_world`: the folder of a world, made once and whole, whoever asks and however it ends."""

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from tireid.files import available_cores, folder_lock
from tireid.world.identities import make_population
from tireid.world.layouts import CUHK_FOLDERS, write_annotations
from tireid.world.settings import WorldSettings
from tireid.world.workers import make_rows

# Without a lock, a temporary folder untouched for this long belongs to nobody.
_ABANDONED_SECONDS = 6 * 3600.0


def world_key(settings: WorldSettings) -> str:
    """Return the folder name of a world: its layout and a hash of its settings and of this code."""
    digest = hashlib.sha256(json.dumps(settings.to_dict(), sort_keys=True).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return f"{settings.layout}-{digest.hexdigest()[:12]}"


def ensure_world(
    cache_dir: str | Path,
    settings: WorldSettings,
    *,
    progress: bool = True,
    num_workers: int | None = None,
) -> Path:
    """Return the folder of a world, made first if it is not there.

    Processes that ask at the same time get the same folder, made by one of them. A build that was
    interrupted, at whatever moment, leaves nothing that is taken for a world; the next call
    removes its remains.

    Args:
        cache_dir: Where worlds are kept; made if missing.
        settings: What the world is made from.
        progress: Show what is made, where, and how far it is, on standard error. Silent if the
            world is there.
        num_workers: Processes that paint; default: as many as this process may use cores. The
            result does not depend on it.

    Returns:
        The absolute path of the data set's root: annotation file, `imgs/`, `ground_truth.jsonl`
        and `settings.json`.

    Raises:
        ValueError: If `num_workers` is below 1.
        OSError: If the folder cannot be written; names it and how to choose another.
    """
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers: expected at least 1, got {num_workers}; or leave it out")
    cache = Path(cache_dir).expanduser().absolute()
    final = cache / world_key(settings)
    if final.is_dir():
        return final
    console = Console(stderr=True, quiet=not progress)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        waiting = f"Another process is making {final}; waiting for it."
        lock = cache / f".{final.name}.lock"
        with folder_lock(lock, on_wait=lambda: console.print(waiting, highlight=False)) as alone:
            if not final.is_dir():
                _remove_remains(final, alone=alone)
                _build(final, settings, console, num_workers or available_cores())
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            error.errno,
            f"the made data set cannot be written to {cache}: {reason}. Expected a writable "
            f"folder with about {_megabytes(settings)} MB free; choose another with "
            "paths.cache_dir=FOLDER (in Python: the first argument of ensure_world)",
        ) from error
    return final


def _build(final: Path, settings: WorldSettings, console: Console, num_workers: int) -> None:
    """Make a world beside its place and move it there in one step."""
    work = final.with_name(f"{final.name}.tmp-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    total = settings.num_ids * settings.images_per_id
    console.print(
        f"Making {total} pictures of {settings.num_ids} made people, with captions, once, in "
        f"{final}",
        highlight=False,
    )
    columns = (TextColumn("painting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        (work / "imgs").mkdir(parents=True)
        if settings.layout == "cuhk_pedes":
            for name in CUHK_FOLDERS:
                (work / "imgs" / name).mkdir()
        population = make_population(settings)
        with Progress(*columns, console=console, disable=console.quiet) as bar:
            task = bar.add_task("painting", total=total)
            rows = make_rows(
                work, settings, population, num_workers, lambda done: bar.advance(task, done)
            )
        write_annotations(work, settings, rows)
        _publish(work, final)
    finally:
        _discard(work)


def _publish(work: Path, final: Path) -> None:
    try:
        work.rename(final)
    except OSError:
        # Where there are no locks somebody else may have finished the same world first.
        if not final.is_dir():
            raise


def _remove_remains(final: Path, *, alone: bool) -> None:
    """Remove temporary folders of builds of this world that did not end."""
    for folder in final.parent.glob(f"{final.name}.tmp-*"):
        if alone or time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS:
            _discard(folder)


def _discard(folder: Path) -> None:
    """Remove a folder, also one that orphaned workers still write to."""
    # Under its new name nobody finds it to add files.
    moved = folder if folder.suffix == ".gone" else folder.with_name(f"{folder.name}.gone")
    with contextlib.suppress(OSError):
        folder.rename(moved)
    shutil.rmtree(moved, ignore_errors=True)


def _megabytes(settings: WorldSettings) -> int:
    """Return a generous guess of the size of a world on disk."""
    height, width = settings.image_size
    pictures = settings.num_ids * settings.images_per_id
    return 1 + round(pictures * (4096 + 0.4 * height * width + 2048) / 1e6)
