"""Compare the images that sources name with the rows of an index, in bounded memory."""

import json
import os
import tempfile
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tireid.search.engines.interface import Engine, Row
from tireid.search.parts import image_id, known_person, scene_fields
from tireid.search.progress import shown_progress
from tireid.search.reading import FileState, file_state
from tireid.search.scenes import Scenes
from tireid.search.sources import Found, Source, find_images
from tireid.search.video import is_video
from tireid.search.where import Value

_AT_ONCE = 500
_A_VIDEO = "a video; --detect hog or dfine finds the people in it"

Item = TypeVar("Item")
ReadFields = Callable[[str], dict[str, Value]]


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
        scenes: What has been looked through for people; None: images show one person each.
        only: Whether an image of a path is looked at; None: all are.

    Attributes:
        changed: Number of files to be read.
        unchanged: Number of files that are as their rows say.
        updated: Number of rows whose fields were changed.
        failures: Paths that are not to be indexed, with the reason.
        kept: Number of rows whose files may be gone, by the folder that is empty.
    """

    def __init__(
        self,
        engine: Engine,
        read_fields: ReadFields,
        leave_out: Path,
        scenes: Scenes | None = None,
        only: Callable[[str], bool] | None = None,
    ) -> None:
        self._only = only
        self._engine = engine
        self._scenes = scenes
        self._leave_out = leave_out
        self._read_fields = read_fields
        self._waiting = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 -- close()
        self._seen = array("q")
        self.changed = self.unchanged = self.updated = 0
        self.failures: list[tuple[str, str]] = []
        self.kept: Counter[str] = Counter()

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
            with shown_progress("looking at files") as advance:
                for batch in in_batches(images, _AT_ONCE):
                    self.look_at(batch)
                    advance(len(batch))

    def look_at(self, batch: Sequence[Found]) -> None:
        """Compare some images with their rows."""
        good: list[tuple[Found, FileState]] = []
        for found in batch:
            if self._only is not None and not self._only(found.path):
                continue
            try:
                if found.reason or (self._scenes is None and is_video(found.path)):
                    raise ValueError(found.reason or _A_VIDEO)
                good.append((found, file_state(found.path)))
            except ValueError as error:
                self.failures.append((found.path, str(error)))
        self._seen.extend(image_id(found.path) for found, _ in good)
        if self._scenes is None:
            self._compare_images(good)
        else:
            self._compare_scenes(good, self._scenes)

    def _compare_images(self, good: Sequence[tuple[Found, FileState]]) -> None:
        known = self._engine.get([image_id(found.path) for found, _ in good])
        updates: list[Row] = []
        for found, state in good:
            row = self._row(found, known.get(image_id(found.path)))
            if (row.size, row.mtime_ns) != state:
                self._wait(row)
            elif row != known[row.id]:
                updates.append(row)
            else:
                self.unchanged += 1
        self._update(updates)

    def _compare_scenes(self, good: Sequence[tuple[Found, FileState]], scenes: Scenes) -> None:
        people: dict[str, list[Row]] = {}
        for row in self._engine.of_files([found.path for found, _ in good]):
            people.setdefault(row.path, []).append(row)
        updates: list[Row] = []
        for found, state in good:
            known = people.get(found.path, [])
            first = known[0]._replace(fields=scene_fields(known[0].fields)) if known else None
            row = self._row(found, first)._replace(id=image_id(found.path))
            kept = scenes.get(found.path)
            if kept is None or kept.until is not None or (kept.size, kept.mtime_ns) != state:
                self._wait(row)
                continue
            now = [known_person(person, row._replace(**state._asdict())) for person in known]
            changed = [after for before, after in zip(known, now, strict=True) if before != after]
            updates += changed
            self.unchanged += len(known) - len(changed)
        self._update(updates)

    def _wait(self, row: Row) -> None:
        self._waiting.write(json.dumps(row) + "\n")
        self.changed += 1

    def _update(self, rows: Sequence[Row]) -> None:
        self.updated += len(rows)
        self._engine.update(rows)

    def _row(self, found: Found, known: Row | None) -> Row:
        fields = self._read_fields(found.path) | (found.fields or {})
        if known is None:
            key = image_id(found.path)
            return Row(key, found.path, found.source, -1, -1, "", fields)
        if found.fields is None:  # a folder knows nothing of what a list has said
            return known._replace(fields=known.fields | fields)
        return known._replace(source=found.source, fields=fields)

    def remove_gone(self, sources: Sequence[Source], *, prune: bool = False) -> int:
        """Remove the rows of images that their source no longer has; return their number.

        Args:
            sources: Those that `run` has looked through.
            prune: Whether rows are removed, too, whose folder is empty or cannot be listed, as one
                is whose disk is not mounted.
        """
        seen = array("q", np.sort(np.array(self._seen, np.int64)).tobytes())
        names = {source.path for source in sources}
        empty: dict[str, str] = {}
        removed = 0
        for batch in in_batches(self._engine.rows(), _AT_ONCE):
            gone: list[Row] = []
            for row in batch:
                if _is_in(row.id, seen) or _is_in(image_id(row.path), seen):
                    continue
                if row.source in names or _is_missing(row.path, sources):
                    folder = "" if prune else _empty_folder(os.path.dirname(row.path), empty)  # noqa: PTH120
                    if folder:
                        self.kept[folder] += 1
                    else:
                        gone.append(row)
            if self._scenes is not None:
                for row in gone:
                    self._scenes.drop(row.path)
            if gone:
                self._engine.remove([row.id for row in gone])
            removed += len(gone)
        return removed

    def waiting(self) -> Iterator[Row]:
        """Yield the rows of the files to be read, with the content known before."""
        self._waiting.seek(0)
        for line in self._waiting:
            values: list[Any] = json.loads(line)
            yield Row(*values)

    def close(self) -> None:
        """Drop the temporary file."""
        self._waiting.close()


def _empty_folder(folder: str, known: dict[str, str]) -> str:
    """Return the nearest folder that is there, if nothing in it can be seen; else nothing.

    Args:
        folder: The folder of a file, or one that it was in.
        known: What was found out before.
    """
    if folder not in known:
        try:
            with os.scandir(folder) as entries:
                known[folder] = folder if next(entries, None) is None else ""
        except (FileNotFoundError, NotADirectoryError):
            known[folder] = _empty_folder(os.path.dirname(folder), known)  # noqa: PTH120
        except OSError:
            known[folder] = folder
    return known[folder]


def _is_in(value: int, ordered: Sequence[int]) -> bool:
    place = bisect_left(ordered, value)
    return place < len(ordered) and ordered[place] == value


def _is_missing(path: str, sources: Sequence[Source]) -> bool:
    """Whether an image that another source has brought lay in a folder, and is gone."""
    return any(source.covers(path) for source in sources) and not os.path.lexists(path)
