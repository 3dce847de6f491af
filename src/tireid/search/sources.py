"""Find the images that folders, files, patterns and lists name."""

import csv
import glob
import json
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

from tireid.runs.foreign import read_lines
from tireid.search.fields import plain_value, read_value, valid_text
from tireid.search.video import is_video
from tireid.search.where import Value

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp"),
    *(".tif", ".tiff", ".mpo"),
    # Listed as unreadable rather than passed over:
    *(".avif", ".heic", ".heif", ".jp2", ".jxl", ".ppm", ".pgm", ".pbm", ".pnm"),
)
PATH_COLUMNS = ("path", "file", "image")
_LISTS = (".csv", ".jsonl")
_Pattern = tuple[str, ...]
_ANY_FOLDERS = "**"
_ANYTHING: _Pattern = (_ANY_FOLDERS, "*")
_NO_TEXT = "its name is not UTF-8; rename it"
_FOLDER_LINK = "a link to a folder; --follow-links enters it"
_OUTSIDE = "a link to a file outside of the folder; --follow-links takes it"

Kind = Literal["folder", "file", "pattern", "list"]


class Found(NamedTuple):
    """An image that a source names.

    Attributes:
        path: Absolute path.
        source: The source, absolute.
        fields: What the source says of it; None if sources of this kind say nothing.
        reason: Why it is not to be indexed; empty if it is.
    """

    path: str
    source: str
    fields: dict[str, Value] | None = None
    reason: str = ""


class Source(NamedTuple):
    """Something that names images.

    Attributes:
        kind: What it is.
        path: Its absolute path or pattern.
    """

    kind: Kind
    path: str

    def covers(self, path: str) -> bool:
        """Whether a file lies in this folder; False for other kinds."""
        return self.kind == "folder" and path.startswith(self.path.rstrip(os.sep) + os.sep)


def read_source(text: str) -> Source:
    """Return what a word of the command line stands for.

    Args:
        text: A folder, an image, a video, a list (`.csv`, `.jsonl`), or a pattern with `*`, `?`,
            `[`, `**`.

    Raises:
        FileNotFoundError: If there is no such file and it is no pattern.
    """
    path = os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111 -- links stay
    if os.path.isdir(path):  # noqa: PTH112
        return Source("folder", path)
    if os.path.exists(path):  # noqa: PTH110
        return Source("list" if path.lower().endswith(_LISTS) else "file", path)
    if glob.has_magic(text):
        return Source("pattern", path)
    raise FileNotFoundError(
        f"{text}: expected a folder, an image, a video, a list (.csv, .jsonl) or a pattern in "
        "quotes, got nothing of this name"
    )


def find_images(
    source: Source, *, follow_links: bool = False, leave_out: Path | None = None
) -> Iterator[Found]:
    """Yield the images of a source, in an order of their names.

    In a folder these are the files with a suffix of images or videos. A link there, or in the
    folder where a pattern begins, is followed if it leads to a file inside; others, and links to
    folders, which could lead anywhere or in a circle, are yielded with the reason why not.

    Args:
        source: From `read_source`.
        follow_links: Whether such links are followed wherever they lead, each folder once.
        leave_out: A folder that is not entered, such as that of the index.

    Raises:
        ValueError: If a list cannot be read.
    """
    if not _is_text(source.path):  # a row could not keep it
        yield Found(source.path, source.path, reason=_NO_TEXT)
    elif source.kind in ("folder", "pattern"):
        yield from _Walk(source, follow_links, leave_out).images()
    elif source.kind == "file":
        yield _named(source.path, source)
    elif source.path.lower().endswith(".csv"):
        yield from _read_csv(source)
    else:
        yield from _read_json_lines(source)


class _Walk:
    """Goes through folders for files that a pattern matches, each folder once.

    Args:
        source: A folder, in which images and videos are looked for, or a pattern.
        follow_links: As in `find_images`.
        leave_out: As in `find_images`.
    """

    def __init__(self, source: Source, follow_links: bool, leave_out: Path | None) -> None:
        self._source = source
        self._root, self._pattern = source.path, _ANYTHING
        if source.kind == "pattern":
            parts = PurePath(source.path).parts
            plain = next(n for n, part in enumerate(parts) if glob.has_magic(part))
            self._root, self._pattern = str(PurePath(*parts[:plain])), _plain(parts[plain:])
        self._inside = os.path.realpath(self._root).rstrip(os.sep) + os.sep
        self._follows = follow_links
        self._left_out = None if leave_out is None else _identity(leave_out)
        self._entered: set[tuple[int, int, _Pattern]] = set()

    def images(self) -> Iterator[Found]:
        """Yield the files, and what is passed over with the reason."""
        folders = [(self._root, self._pattern)]
        while folders:
            folder, pattern = folders.pop()
            try:
                with os.scandir(folder) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
                identity = _identity(folder)
            except OSError as error:
                yield Found(folder, self._source.path, reason=f"cannot be listed: {error.strerror}")
                continue
            if identity == self._left_out or (*identity, pattern) in self._entered:
                continue
            self._entered.add((*identity, pattern))
            inner: list[tuple[str, _Pattern]] = []
            for entry in entries:
                yield from self._visit(entry, pattern, inner)
            folders += reversed(inner)

    def _visit(
        self, entry: os.DirEntry[str], pattern: _Pattern, inner: list[tuple[str, _Pattern]]
    ) -> Iterator[Found]:
        """Yield a file, or what keeps it from being one; collect folders."""
        name, *rest = pattern[1:] if pattern[0] == _ANY_FOLDERS else pattern
        matches = fnmatchcase(entry.name, name)
        if os.path.isdir(entry.path):  # noqa: PTH112 -- False for links in a circle
            below = [pattern] if pattern[0] == _ANY_FOLDERS else []
            below += [tuple(rest)] if rest and matches else []
            if self._follows or not entry.is_symlink():
                inner += [(entry.path, one) for one in below]
            elif below:
                yield self._found(entry.path, _FOLDER_LINK)
        elif matches and not rest and self._wants(entry.name):
            outside = entry.is_symlink() and not self._leads_inside(entry.path)
            yield self._found(entry.path, _OUTSIDE if outside and not self._follows else "")

    def _wants(self, name: str) -> bool:
        return self._source.kind == "pattern" or _is_image(name) or is_video(name)

    def _leads_inside(self, path: str) -> bool:
        return os.path.realpath(path).startswith(self._inside)

    def _found(self, path: str, reason: str) -> Found:
        return _checked(Found(path, self._source.path, reason=reason))


def _plain(parts: Sequence[str]) -> _Pattern:
    """Return a pattern whose `**` stand alone and not at the end."""
    plain = [part for part, next_ in pairwise([*parts, ""]) if {part, next_} != {_ANY_FOLDERS}]
    return (*plain, "*") if plain[-1] == _ANY_FOLDERS else tuple(plain)


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122


def _identity(folder: str | Path) -> tuple[int, int]:
    state = os.stat(folder)  # noqa: PTH116
    return state.st_dev, state.st_ino


def _named(path: str, source: Source, fields: dict[str, Value] | None = None) -> Found:
    return _checked(Found(path, source.path, fields))


def _checked(found: Found) -> Found:
    return found if _is_text(found.path) else found._replace(reason=found.reason or _NO_TEXT)


def _is_text(path: str) -> bool:
    """Whether a name is text: one of raw bytes cannot be kept as such."""
    return valid_text(path) == path


def _read_csv(source: Source) -> Iterator[Found]:
    reader = csv.DictReader(read_lines(Path(source.path), encoding="utf-8-sig"))
    try:
        column = _path_column(reader.fieldnames or ())
        for row in reader:
            if None in row:
                raise ValueError("more cells than the header has columns")
            cells = ((n, text or "") for n, text in row.items() if n and n != column)
            fields = {name: read_value(name, text) for name, text in cells}
            yield _in_list(row[column], fields, source)
    except (csv.Error, ValueError) as error:
        raise _bad_list(source, max(reader.line_num, 1), error) from error


def _read_json_lines(source: Source) -> Iterator[Found]:
    lines, line = read_lines(Path(source.path)), 1
    try:
        for line, text in enumerate(lines, start=1):  # noqa: B007 -- for the message
            if text.strip():
                yield _read_json_line(text, source)
    except (ValueError, RecursionError) as error:
        raise _bad_list(source, line, error) from error


def _read_json_line(text: str, source: Source) -> Found:
    row = json.loads(text)
    if not isinstance(row, dict):
        raise ValueError(f"expected an object, got a {type(row).__name__}")
    column = _path_column(list(row))
    fields = {valid_text(n): plain_value(value) for n, value in row.items() if n and n != column}
    return _in_list(row[column], fields, source)


def _path_column(names: Sequence[str]) -> str:
    column = next((name for name in PATH_COLUMNS if name in names), None)
    if column is None:
        raise ValueError(
            f"expected a column {' or '.join(PATH_COLUMNS)}, got {', '.join(names) or 'none'}"
        )
    return column


def _in_list(path: Any, fields: dict[str, Value], source: Source) -> Found:
    if not isinstance(path, str) or not path:
        raise ValueError(f"expected a path, got {path!r}")
    folder = os.path.dirname(source.path)  # noqa: PTH120
    place = os.path.join(folder, os.path.expanduser(path))  # noqa: PTH111, PTH118
    return _named(os.path.abspath(place), source, fields)  # noqa: PTH100


def _bad_list(source: Source, line: int, error: object) -> ValueError:
    return ValueError(f"{source.path}: line {line}: {error}")
