"""Find the images that folders, files, patterns and lists name."""

import csv
import glob
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tireid.runs.foreign import read_lines
from tireid.search.fields import plain_value, read_value
from tireid.search.video import is_video
from tireid.search.where import Value

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif"),
)
PATH_COLUMNS = ("path", "file", "image")
_LISTS = (".csv", ".jsonl")

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

    In a folder these are the files with a suffix of images or videos. A link there is followed if
    it leads to a file inside; others, and links to folders, which could lead anywhere or in a
    circle, are yielded with the reason why not.

    Args:
        source: From `read_source`.
        follow_links: Whether links in folders are followed wherever they lead, each folder once.
        leave_out: A folder that is not entered, such as that of the index.

    Raises:
        ValueError: If a list cannot be read.
    """
    if source.kind == "folder":
        yield from _Folder(source.path, follow_links, leave_out).images()
    elif source.kind == "file":
        yield _named(source.path, source)
    elif source.kind == "pattern":
        for path in glob.iglob(source.path, recursive=True, include_hidden=True):  # noqa: PTH207
            if not os.path.isdir(path):  # noqa: PTH112
                yield _named(path, source)
    elif source.path.lower().endswith(".csv"):
        yield from _read_csv(source)
    else:
        yield from _read_json_lines(source)


class _Folder:
    def __init__(self, root: str, follow_links: bool, leave_out: Path | None) -> None:
        self._root = root
        self._inside = os.path.realpath(root).rstrip(os.sep) + os.sep
        self._follows = follow_links
        self._entered = {_identity(leave_out)} if leave_out is not None else set()

    def images(self) -> Iterator[Found]:
        """Yield the images below the folder."""
        folders = [self._root]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(folder) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
                identity = _identity(folder)
            except OSError as error:
                yield Found(folder, self._root, reason=f"cannot be listed: {error.strerror}")
                continue
            if identity in self._entered:
                continue
            self._entered.add(identity)
            inner: list[str] = []
            for entry in entries:
                yield from self._visit(entry, inner)
            folders += reversed(inner)

    def _visit(self, entry: os.DirEntry[str], inner: list[str]) -> Iterator[Found]:
        """Yield an image, a video or what keeps it from being one; collect folders."""
        is_folder = os.path.isdir(entry.path)  # noqa: PTH112 -- False for links in a circle
        if is_folder and (self._follows or not entry.is_symlink()):
            inner.append(entry.path)
        elif is_folder:
            yield self._found(entry.path, "a link to a folder; --follow-links enters it")
        elif _is_image(entry.name) or is_video(entry.name):
            outside = entry.is_symlink() and not self._leads_inside(entry.path)
            reason = "a link to a file outside of the folder; --follow-links takes it"
            yield self._found(entry.path, reason if outside and not self._follows else "")

    def _leads_inside(self, path: str) -> bool:
        return os.path.realpath(path).startswith(self._inside)

    def _found(self, path: str, reason: str) -> Found:
        return _checked(Found(path, self._root, reason=reason))


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122


def _identity(folder: str | Path) -> tuple[int, int]:
    state = os.stat(folder)  # noqa: PTH116
    return state.st_dev, state.st_ino


def _named(path: str, source: Source, fields: dict[str, Value] | None = None) -> Found:
    return _checked(Found(path, source.path, fields))


def _checked(found: Found) -> Found:
    try:
        found.path.encode()
    except UnicodeEncodeError:  # a name of raw bytes cannot be kept as text
        return found._replace(reason=found.reason or "its name is not UTF-8; rename it")
    return found


def _read_csv(source: Source) -> Iterator[Found]:
    reader = csv.DictReader(read_lines(Path(source.path), encoding="utf-8-sig"))
    try:
        column = _path_column(reader.fieldnames or ())
        for row in reader:
            if None in row:
                raise ValueError("more cells than the header has columns")
            fields = {n: read_value(n, text or "") for n, text in row.items() if n != column}
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
    fields = {name: plain_value(value) for name, value in row.items() if name != column}
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
