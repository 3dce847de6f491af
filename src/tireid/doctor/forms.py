"""Annotation files in the forms that other repositories give them, as entries of a layout."""

from collections import Counter
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from tireid.data.annotations import Layout, load_content
from tireid.data.records import SPLITS
from tireid.data.table_rows import read_rows as read_table_rows
from tireid.doctor.findings import Finding, number
from tireid.runs.foreign import regular_file

_LARGEST = 512 * 2**20  # bytes of a file that is opened because of its ending
# Other names of fields: TextReID's files have one row a caption in `annotations`, APTM's and
# ALBEF's name the identity `image_id`.
_PATHS = ("file_path", "img_path", "image")
_CAPTIONS = ("captions", "caption", "sentence", "sentences")
_IDS = ("id", "person_id", "pid", "image_id")
# How people write what is published otherwise, each with a noun and what to do.
_BACKWARD = "written with \\, as on Windows"
_FROM_IMGS = "beginning with imgs/ or what stands before it"
_AS_TEXT = "written as text"
_AS_DECIMAL = "written with a decimal point"
_HABITS = {
    _BACKWARD: ("path", "write / in the annotation file"),
    _FROM_IMGS: ("path", "begin with the folder inside imgs/"),
    _AS_TEXT: ("identity number", "write numbers without quotes"),
    _AS_DECIMAL: ("identity number", "write whole numbers"),
}
_DIGITS = 19  # of an identity in 64 bits
_LARGEST_EXACT = 2**53  # to which a decimal holds every whole number


def read_rows(file: Path) -> list[Any]:
    """Return the rows of an annotation file in any form; empty if it is none.

    Args:
        file: A list of rows in JSON, also as `annotations` of an object, or a list for each split.
    """
    try:
        state = regular_file(file, largest=_LARGEST).stat()
        return _read_rows(file, state.st_size, state.st_mtime_ns)
    except (OSError, ValueError):
        return []


@lru_cache(maxsize=4)  # a file is looked at, then read
def _read_rows(file: Path, _size: int, _changed: int) -> list[Any]:
    if file.suffix.lower() != ".json":
        return [row for _, row in read_table_rows(file)]
    content = load_content(file)
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        return content["annotations"]
    if isinstance(content, dict):
        lists = {split: content.get(split) for split in SPLITS}
        return [
            row | {"split": split} if isinstance(row, dict) else row
            for split, rows in lists.items()
            for row in (rows if isinstance(rows, list) else ())
        ]
    return content if isinstance(content, list) else []


def is_annotation(file: Path) -> bool:
    """Whether a file holds rows with an image and captions."""
    rows = read_rows(file)
    return any(
        _name(row, _PATHS) is not None and _name(row, _CAPTIONS) is not None
        for row in rows[:5]
        if isinstance(row, dict)
    )


def as_entries(layout: Layout, rows: list[Any], split: str | None) -> list[Any]:
    """Return rows as entries of a layout; what has its fields stays as it is.

    Args:
        layout: File and field names.
        rows: Of any form.
        split: Split of rows that name none; None: they stay without one.

    Returns:
        Entries; rows of one image that hold a single sentence each become one entry.
    """
    entries: list[Any] = []
    merged: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        entry = _as_entry(layout, row, split) if isinstance(row, dict) else row
        if entry is not row and "captions" in entry and isinstance(entry["captions"], str):
            key = tuple(str(entry.get(name)) for name in ("split", "id", layout.path_field))
            if key in merged:
                merged[key]["captions"].append(entry["captions"])
                continue
            entry["captions"] = [entry["captions"]]
            merged[key] = entry
        entries.append(entry)
    return entries


def other_fields(layout: Layout, rows: list[Any]) -> list[str]:
    """Return the names of fields that stand in place of the layout's, each as `A for B`."""
    row = next((row for row in rows if isinstance(row, dict)), {})
    wanted = ((layout.path_field, _PATHS), ("captions", _CAPTIONS), ("id", _IDS))
    return [
        f"{found} for {name}"
        for name, names in wanted
        if name not in row and (found := _name(row, names)) is not None
    ]


def mend(layout: Layout, entries: list[Any], image_root: Path) -> tuple[list[Any], list[Finding]]:
    """Return entries of which paths and identities are written as published, and what was not.

    Args:
        layout: File and field names.
        entries: In the layout's form.
        image_root: Where the images are expected.
    """
    counts: Counter[str] = Counter()
    mended: list[Any] = []
    for entry in entries:
        if isinstance(entry, dict):
            changes = _changes(layout, entry, image_root)
            counts.update(list(changes))
            if changes:
                entry = entry | {key: new for change in changes.values() for key, new in change}
        mended.append(entry)
    return mended, [
        Finding(f"{number(counts[what], noun)} {what}", f"{advice} (--fix FILE does)")
        for what, (noun, advice) in _HABITS.items()
        if counts[what]
    ]


def _changes(
    layout: Layout, entry: dict[str, Any], image_root: Path
) -> dict[str, list[tuple[str, Any]]]:
    """Return what is changed of an entry, by what is wrong with it."""
    field, changes = layout.path_field, dict[str, list[tuple[str, Any]]]()
    path, pid = entry.get(field), entry.get("id")
    if isinstance(path, str) and "\\" in path:
        path = path.replace("\\", "/")
        changes[_BACKWARD] = [(field, path)]
    if isinstance(path, str) and "imgs" in PurePosixPath(path).parts:
        inner = _below_imgs(path)
        if ".." not in inner and is_there(image_root, inner) and not is_there(image_root, path):
            changes[_FROM_IMGS] = [(field, inner)]
    if isinstance(pid, str) and pid.isascii() and pid.isdecimal() and len(pid) < _DIGITS:
        changes[_AS_TEXT] = [("id", int(pid))]
    if isinstance(pid, float) and pid.is_integer() and 0 <= pid <= _LARGEST_EXACT:
        changes[_AS_DECIMAL] = [("id", int(pid))]
    return changes


def is_there(folder: Path, name: str) -> bool:
    """Whether a file of this name is in a folder, whatever the name is."""
    try:
        return (folder / name).is_file()
    except (OSError, ValueError):  # too long, or no name of a file
        return False


def _as_entry(layout: Layout, row: dict[str, Any], split: str | None) -> dict[str, Any]:
    has_all = {layout.path_field, "captions", "id"} <= row.keys()
    if has_all and (split is None or "split" in row):
        return row
    entry = dict(row)
    for name, names in ((layout.path_field, _PATHS), ("captions", _CAPTIONS), ("id", _IDS)):
        found = _name(row, names)
        if name not in row and found is not None:
            entry[name] = entry.pop(found)
            if found == "image" and isinstance(entry[name], str):
                entry[name] = _below_imgs(entry[name])
    if split is not None:
        entry.setdefault("split", split)
    return entry


def _below_imgs(path: str) -> str:
    """Return a path without what stands before the last `imgs/` in it."""
    parts = PurePosixPath(path).parts
    last = max((number for number, part in enumerate(parts) if part == "imgs"), default=-1)
    return str(PurePosixPath(*parts[last + 1 :]))


def _name(row: dict[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in row), None)
