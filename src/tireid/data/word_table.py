"""Tables on disk of the token features of a split's captions.

A table is a folder: `words.bin` holds the features of all captions one after another, `facts.json`
their description and checksum.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from tireid.files import write_json
from tireid.runs.foreign import read_json, regular_file

WordType = Literal["float32", "float16"]
Facts = dict[str, Any]

WORDS_FILE = "words.bin"
_FACTS_FILE = "facts.json"
_BYTES_AT_ONCE = 2**24


class WordTable:
    """The token features of all captions of a split, memory-mapped.

    A copy sent to another process opens the file by its path.

    Args:
        folder: Folder of the table, whole and checked.
        lengths: Number of tokens of each caption.
        width: Width of a token's features.
        dtype: Type of the numbers in the file.
        found: Whether it was on disk before it was asked for.
    """

    def __init__(
        self, folder: Path, lengths: Sequence[int], width: int, dtype: WordType, *, found: bool
    ) -> None:
        self.folder = folder
        self.found = found
        self._starts = np.cumsum([0, *lengths])
        self._width = width
        self._dtype = np.dtype(dtype)
        self._map: np.memmap[Any, Any] | None = None

    @property
    def num_bytes(self) -> int:
        """Size on disk."""
        return int(self._starts[-1]) * self._width * self._dtype.itemsize

    def __len__(self) -> int:
        """Return the number of captions."""
        return len(self._starts) - 1

    def __call__(self, captions: Sequence[int]) -> Float32[Tensor, "batch length width"]:
        """Return the features of some captions, padded with zeros to the longest of them.

        Args:
            captions: Positions in the split, in any order; may repeat.

        Raises:
            IndexError: If there is no such caption.
        """
        positions = np.asarray(captions, dtype=np.int64)
        if positions.size and not 0 <= positions.min() <= positions.max() < len(self):
            raise IndexError(f"captions: expected 0 to {len(self) - 1}, got {list(captions)}")
        if self._map is None:
            shape = (int(self._starts[-1]), self._width)
            self._map = np.memmap(self.folder / WORDS_FILE, self._dtype, mode="r", shape=shape)
        starts, ends = self._starts[positions], self._starts[positions + 1]
        longest = int((ends - starts).max(initial=0))
        features = np.zeros((len(positions), longest, self._width), np.float32)
        for row, start, end in zip(features, starts, ends, strict=True):
            row[: end - start] = self._map[start:end]
        return torch.from_numpy(features)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_map": None}


def write_facts(folder: Path, facts: Facts) -> None:
    """Finish a table whose features are written: add their description and checksum."""
    write_json(folder / _FACTS_FILE, facts | {"crc32": _checksum(folder / WORDS_FILE)})


def fault_of(folder: Path, facts: Facts) -> str | None:
    """Return what is wrong with a table; None if every byte is as it was written."""
    try:
        written = read_json(folder / _FACTS_FILE, "the facts of a table", inside=folder)
        size = regular_file(folder / WORDS_FILE, inside=folder).stat().st_size
        if size != num_bytes(facts):
            return f"expected {num_bytes(facts)} bytes of features, got {size}"
        if written != facts | {"crc32": _checksum(folder / WORDS_FILE)}:
            return f"{WORDS_FILE} does not match {_FACTS_FILE}"
    except (OSError, ValueError) as error:
        return str(error)
    return None


def num_bytes(facts: Facts) -> int:
    """Return the size of `words.bin` by the facts."""
    return facts["tokens"] * facts["width"] * np.dtype(facts["dtype"]).itemsize


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(_BYTES_AT_ONCE):
            checksum = zlib.crc32(block, checksum)
    return checksum
