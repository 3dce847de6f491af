"""Read image files in worker processes: content hash and pixels, or the reason why not."""

import os
import stat
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tireid.data.images import read_image, resampling
from tireid.files import file_sha256
from tireid.search.engines.interface import Row
from tireid.search.parts import Part, part_digest


class FileState(NamedTuple):
    """Size in bytes and time of the last change of a file, in nanoseconds."""

    size: int
    mtime_ns: int


class ReadBatch(NamedTuple):
    """Files that were read, each in one of three states.

    Attributes:
        rows: Those with new content.
        pixels: Their images, one a row.
        unchanged: Those whose content is the one that was known.
        failures: Ids of the others, with their paths and reasons.
    """

    rows: list[Row]
    pixels: UInt8[Tensor, "rows 3 height width"]
    unchanged: list[Row]
    failures: list[tuple[int, str, str]]


def file_state(path: str) -> FileState:
    """Return a regular file's size and time of change.

    Raises:
        ValueError: If there is none; says so without the path.
    """
    try:
        state = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise ValueError(error.strerror or repr(error)) from error
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("not a regular file")
    return FileState(state.st_size, state.st_mtime_ns)


def has_content_of(row: Row, part: Part | None) -> bool:
    """Return whether a row's file is the one that was indexed, not another in its place.

    Args:
        row: The row.
        part: The person that it stands for; None: the whole file.
    """
    try:
        state = file_state(row.path)
        if state == (row.size, row.mtime_ns) or state.size != row.size:
            return state.size == row.size
        digest = file_sha256(Path(row.path))  # touched or copied
    except (ValueError, OSError):
        return False
    return row.digest == (digest if part is None else part_digest(digest, part))


class ImageFiles(Dataset[ReadBatch]):
    """Reads batches of files; what is read is decided by who asks, not by an index.

    Args:
        image_size: Height and width in pixels.
        interpolation: Name of Pillow's filter for the resizing.
        shortest_edge: As in `tireid.data.images.read_image`.
        decoder: As in `tireid.data.images.read_image`.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        interpolation: str,
        shortest_edge: int | None = None,
        decoder: str = "pillow",
    ) -> None:
        self._image_size = image_size
        self._shortest_edge, self._decoder = shortest_edge, decoder
        self._filter = resampling(interpolation)

    def __getitems__(self, wanted: Sequence[Row]) -> ReadBatch:
        """Read some files whose rows hold the content that is known, or an empty digest."""
        rows: list[Row] = []
        pixels: list[Tensor] = []
        unchanged: list[Row] = []
        failures: list[tuple[int, str, str]] = []
        for row in wanted:
            try:
                with warnings.catch_warnings(action="ignore"):  # Pillow's name no file
                    read, image = self._read(row)
            except (ValueError, OSError) as error:
                failures.append((row.id, row.path, str(error).removeprefix(f"{row.path}: ")))
                continue
            if image is None:
                unchanged.append(read)
            else:
                rows.append(read)
                pixels.append(image)
        shape = (0, 3, *self._image_size)
        stacked = torch.stack(pixels) if pixels else torch.empty(shape, dtype=torch.uint8)
        return ReadBatch(rows, stacked, unchanged, failures)

    def _read(self, row: Row) -> tuple[Row, Tensor | None]:
        before = file_state(row.path)
        digest = file_sha256(Path(row.path))
        known = digest == row.digest
        image = None if known else self._pixels(Path(row.path))
        if file_state(row.path) != before:
            raise ValueError("changed while it was read; run the command again")
        return row._replace(size=before.size, mtime_ns=before.mtime_ns, digest=digest), image

    def _pixels(self, image: Path) -> Tensor:
        return read_image(image, self._image_size, self._filter, self._shortest_edge, self._decoder)


def read_files(files: ImageFiles, wanted: Iterable[list[Row]], workers: int) -> Iterator[ReadBatch]:
    """Yield what was read of each batch of rows, in order; few batches are held at a time.

    Args:
        files: Reads them.
        wanted: Batches of rows, asked for one by one.
        workers: Processes that read; 0: this one.

    Raises:
        OSError: If one of the processes ends.
    """
    loader = DataLoader(
        files,
        batch_sampler=wanted,  # pyright: ignore[reportArgumentType]  # rows are keys here
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),
    )
    try:
        yield from loader
    except RuntimeError as error:  # a worker was killed: by a decoder's fault, or for memory
        raise OSError(
            f"a process that reads images has ended ({str(error).splitlines()[0]}); the same "
            "command goes on from here, with --workers 0 in one process"
        ) from error


def _as_it_is(batch: Any) -> ReadBatch:
    return batch
