"""Decoded and resized images of a split in one file on disk, memory-mapped.

Such a cache is a folder: `pixels.bin` holds the images one after another, `facts.json` says which
they are, and the size, time of change and SHA-256 of that file.
"""

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from jaxtyping import UInt8
from PIL import features
from torch import Tensor

from tireid.console import say
from tireid.data.images import fingerprint, for_each
from tireid.files import build_once, file_sha256, write_json

Facts = dict[str, Any]
_FORMAT = 1
_PIXELS_FILE, _FACTS_FILE = "pixels.bin", "facts.json"
_UNUSED_DAYS = 30
_WHAT_TO_DO = (
    "choose another folder with paths.cache_dir=FOLDER, a smaller dataset.image_size, or have the "
    "images read from their files with dataset.cache=null"
)


class PackedImages:
    """Images of one size, memory-mapped; a copy sent to another process opens the file by its path.

    Args:
        folder: Folder of the cache, whole.
        shape: Number of images, 3, height, width.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int, int]) -> None:
        self.folder = folder
        self._shape = shape
        self._map: np.memmap[Any, Any] | None = None

    def __len__(self) -> int:
        return self._shape[0]

    def __getitem__(self, index: int) -> UInt8[Tensor, "3 height width"]:
        """Return one image, copied."""
        if self._map is None:
            self._map = np.memmap(self.folder / _PIXELS_FILE, np.uint8, "r", shape=self._shape)
        return torch.from_numpy(np.array(self._map[index]))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_map": None}


def packed_images(
    paths: Sequence[Path],
    read: Callable[[int], UInt8[Tensor, "3 height width"]],
    recipe: Facts,
    cache_dir: Path,
    *,
    progress: bool = True,
) -> PackedImages:
    """Return the packed images of some files, read first if they are not there or damaged.

    Processes that ask at the same time get the same file, written by one of them (see
    `files.build_once`). Whoever packs images removes those that nobody has read for 30 days.

    Args:
        paths: Image files.
        read: Returns one of them, by its position.
        recipe: How it is read, with its `image_size`.
        cache_dir: The cache is kept in its folder `images`, under a hash of the files (path, size,
            time of change), the recipe, and the versions of what decodes and resizes.
        progress: Whether to say on standard error that another process is waited for.

    Raises:
        ValueError: If images cannot be read; says how many and names the first few.
        OSError: If there is no room or the folder cannot be written; says how much is needed, how
            much there is, and what to set.
    """
    facts: Facts = {
        "format": _FORMAT,
        "files": fingerprint(paths),
        "images": len(paths),
        "pillow": PIL.__version__,
        "libjpeg": features.version("jpg"),
        "torch": str(torch.__version__),
        **recipe,
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    folder = cache_dir / "images" / key
    fault = _fault(folder, facts)
    if fault is not None and folder.is_dir():
        say(f"{folder} is damaged and packed again: {fault}", to_stderr=True)
    try:
        is_new = build_once(
            folder,
            partial(_pack, facts=facts, read=read),
            is_whole=lambda cache: _fault(cache, facts) is None,
            on_wait=lambda: _say_waiting(folder) if progress else None,
            only_such_beside=True,
        )
        with suppress(OSError):  # another user's
            (folder / _FACTS_FILE).touch()
        if is_new:
            _remove_unused(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            f"{len(paths):,} images cannot be packed in {folder.parent}: {reason}; {_WHAT_TO_DO}"
        ) from error
    return PackedImages(folder, _shape(facts))


def _pack(folder: Path, *, facts: Facts, read: Callable[[int], Tensor]) -> None:
    """Fill an empty folder with images."""
    count, _, height, width = _shape(facts)
    needed, free = _num_bytes(facts), shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"expected {needed / 2**30:.2f} GiB free, got {free / 2**30:.2f} GiB")
    say(
        f"Packing {count:,} images of {height}x{width} once, into {needed / 2**20:,.1f} MiB in "
        f"{folder.parent}, where {free / 2**20:,.0f} MiB are free",
        to_stderr=True,
    )
    lock = threading.Lock()
    with (folder / _PIXELS_FILE).open("wb") as file:

        def write(index: int) -> None:
            pixels = read(index).numpy().tobytes()
            # Written rather than mapped: a full disk is an error then, not a dead process.
            with lock:
                file.seek(index * len(pixels))
                file.write(pixels)

        for_each(write, range(count), "Packing images", progress=True)
    _write_facts(folder, facts, file_sha256(folder / _PIXELS_FILE))


def _remove_unused(used: Path) -> None:
    """Remove the caches beside one that nobody has read for long, and say how large the rest is."""
    rest = removed = 0
    for facts in used.parent.glob(f"*/{_FACTS_FILE}"):
        size = (facts.parent / _PIXELS_FILE).stat().st_size
        if time.time() - facts.stat().st_mtime > _UNUSED_DAYS * 24 * 3600:
            shutil.rmtree(facts.parent, ignore_errors=True)
            removed += size
        elif facts.parent != used:
            rest += size
    if removed or rest:
        say(
            f"Other packed images take {rest / 2**20:,.1f} MiB in {used.parent}, and may be "
            f"deleted; {removed / 2**20:,.1f} MiB that were not read for {_UNUSED_DAYS} days are",
            to_stderr=True,
        )


def _fault(folder: Path, facts: Facts) -> str | None:
    """Return what is wrong with a cache; None if it is whole.

    Its content is read only if the file was changed or copied since it was last found whole.
    """
    try:
        file = folder / _PIXELS_FILE
        written, state = json.loads((folder / _FACTS_FILE).read_text(encoding="utf-8")), file.stat()
        if state.st_size != _num_bytes(facts):
            return f"expected {_num_bytes(facts)} bytes of pixels, got {state.st_size}"
        if written == facts | {"sha256": written["sha256"], "mtime_ns": state.st_mtime_ns}:
            return None
        if written != facts | {"sha256": file_sha256(file), "mtime_ns": written["mtime_ns"]}:
            return f"{_PIXELS_FILE} does not match {_FACTS_FILE}"
    except (OSError, ValueError, LookupError, TypeError) as error:
        return str(error)
    with suppress(OSError):  # another user's
        _write_facts(folder, facts, written["sha256"])
    return None


def _write_facts(folder: Path, facts: Facts, sha256: str) -> None:
    state = (folder / _PIXELS_FILE).stat()
    write_json(folder / _FACTS_FILE, facts | {"sha256": sha256, "mtime_ns": state.st_mtime_ns})


def _say_waiting(folder: Path) -> None:
    say(f"Another process packs {folder}; waiting for it.", to_stderr=True)


def _shape(facts: Facts) -> tuple[int, int, int, int]:
    height, width = facts["image_size"]
    return facts["images"], 3, height, width


def _num_bytes(facts: Facts) -> int:
    count, channels, height, width = _shape(facts)
    return count * channels * height * width
