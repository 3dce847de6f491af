"""Compare the images that sources name with the rows of an index, in bounded memory."""

import hashlib
import json
import os
import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tireid.search.engines.interface import Engine, Row
from tireid.search.reading import file_state
from tireid.search.sources import Found, Source, find_images
from tireid.search.where import Value

_AT_ONCE = 500

Item = TypeVar("Item")
ReadFields = Callable[[str], dict[str, Value]]


def image_id(path: str) -> int:
    """Return the id of an image: 63 bits of a hash of its path, the same on every machine."""
    digest = hashlib.blake2b(path.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield items in lists of a size; the last may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


class Scan:
    """What changed between the rows of an index and the files.

    Files whose size and time of change are those of their row count as unchanged. The others wait
    in a temporary file; an image takes 8 bytes of memory.

    Args:
        engine: Holds the rows.
        read_fields: Reads fields from the path of a file.
        leave_out: Folder of the index, whose own images are none of its sources'.

    Attributes:
        changed: Number of files to be read.
        unchanged: Number of files that are as their rows say.
        updated: Number of rows whose fields were changed.
        failures: Paths that are not to be indexed, with the reason.
    """

    def __init__(self, engine: Engine, read_fields: ReadFields, leave_out: Path) -> None:
        self._engine = engine
        self._leave_out = leave_out
        self._read_fields = read_fields
        self._waiting = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 -- close()
        self._seen = array("q")
        self.changed = self.unchanged = self.updated = 0
        self.failures: list[tuple[str, str]] = []

    def run(self, sources: Sequence[Source], *, follow_links: bool = False) -> None:
        """Look at all images of some sources.

        Args:
            sources: What to look through; of an image that several name, a list's fields win.
            follow_links: As in `find_images`.

        Raises:
            ValueError: If a list cannot be read.
        """
        for source in sorted(sources, key=lambda source: source.kind == "list"):
            images = find_images(source, follow_links=follow_links, leave_out=self._leave_out)
            for batch in in_batches(images, _AT_ONCE):
                self.look_at(batch)

    def look_at(self, batch: Sequence[Found]) -> None:
        """Compare some images with their rows."""
        good: list[Found] = []
        for found in batch:
            if found.reason:
                self.failures.append((found.path, found.reason))
            else:
                good.append(found)
        known = self._engine.get([image_id(found.path) for found in good])
        updates: list[Row] = []
        for found in good:
            try:
                state = file_state(found.path)
            except ValueError as error:
                self.failures.append((found.path, str(error)))
                continue
            row = self._row(found, known.get(image_id(found.path)))
            self._seen.append(row.id)
            if (row.size, row.mtime_ns) != state:
                self._waiting.write(json.dumps(row) + "\n")
                self.changed += 1
            elif row != known[row.id]:
                updates.append(row)
            else:
                self.unchanged += 1
        self.updated += len(updates)
        self._engine.update(updates)

    def _row(self, found: Found, known: Row | None) -> Row:
        fields = self._read_fields(found.path) | (found.fields or {})
        if known is None:
            key = image_id(found.path)
            return Row(key, found.path, found.source, -1, -1, "", fields)
        if found.fields is None:  # a folder knows nothing of what a list has said
            return known._replace(fields=known.fields | fields)
        return known._replace(source=found.source, fields=fields)

    def remove_gone(self, sources: Sequence[Source]) -> int:
        """Remove the rows of images that their source no longer has; return their number.

        Args:
            sources: Those that `run` has looked through.
        """
        seen = array("q", np.sort(np.array(self._seen, np.int64)).tobytes())
        names = {source.path for source in sources}
        removed = 0
        for batch in in_batches(self._engine.rows(), _AT_ONCE):
            gone = [
                row.id
                for row in batch
                if not _is_in(row.id, seen)
                and (row.source in names or _is_missing(row.path, sources))
            ]
            if gone:
                self._engine.remove(gone)
            removed += len(gone)
        return removed

    def waiting(self, size: int) -> Iterator[list[Row]]:
        """Yield the rows of the files to be read, in batches, with the content known before."""
        self._waiting.seek(0)
        lines: Iterator[list[Any]] = (json.loads(line) for line in self._waiting)
        yield from in_batches((Row(*values) for values in lines), size)

    def close(self) -> None:
        """Drop the temporary file."""
        self._waiting.close()


def _is_in(value: int, ordered: Sequence[int]) -> bool:
    place = bisect_left(ordered, value)
    return place < len(ordered) and ordered[place] == value


def _is_missing(path: str, sources: Sequence[Source]) -> bool:
    """Whether an image that another source has brought lay in a folder, and is gone."""
    return any(source.covers(path) for source in sources) and not os.path.lexists(path)
