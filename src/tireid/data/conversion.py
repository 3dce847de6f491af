"""Write a data set in another layout: the same records, in another annotation file."""

import csv
import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tireid.data.annotations import Annotations, Layout, read_annotations
from tireid.data.custom import CUSTOM, made_splits, read_table
from tireid.data.layouts import LAYOUTS
from tireid.data.records import Record, Splits
from tireid.data.split_counts import count
from tireid.files import build_once, write_text

IMAGES = ("link", "copy", "none")


def convert(source: str, root: Path, target: str, out: Path, *, images: str = "link") -> list[str]:
    """Write a data set in another layout; nothing is overwritten.

    Args:
        source: Layout of the data set: a name of `LAYOUTS`.
        root: Its folder.
        target: Layout to write.
        out: Folder to write to; made if missing. It may be `root`, with `images="none"`.
        images: `link` makes `imgs/` a link to the images' folder, `copy` copies the images that the
            annotations name, `none` leaves them where they are.

    Returns:
        Lines that say what was written, and what the layout cannot hold.

    Raises:
        FileNotFoundError: If the data set, or an image to copy, is missing.
        FileExistsError: If a file or folder to write is there.
        ValueError: If the annotations break the rules of training.
    """
    read, layout = _read(source, root), LAYOUTS[target]
    image_root, linked = read.image_root.resolve(), out / "imgs"
    for name in layout.annotation_files:
        if (out / name).exists() or (out / name).is_symlink():
            raise FileExistsError(f"{out / name}: expected no such file, got one; choose another")
    out.mkdir(parents=True, exist_ok=True)
    are_there = linked.is_dir() and linked.samefile(image_root)
    if images != "none" and not are_there:
        _place_images(read.splits, image_root, linked, copied=images == "copy")
    file = out / layout.annotation_files[0]
    write_text(file, _text(layout, read.splits, image_root, read.persons))
    sizes = (
        f"{split} {', '.join(f'{number:,} {what}' for what, number in count(records).items())}"
        for split, records in read.splits.items()
        if records
    )
    lines = [f"written: {file}: {'; '.join(sizes)}", *_left_out(read, layout)]
    paths = {record.image_path for records in read.splits.values() for record in records}
    if missing := sum(not path.is_file() for path in paths):
        lines.append(f"missing: {missing:,} of {len(paths):,} images; tireid doctor names them")
    if images == "none" and not are_there:
        lines.append(f"the images are in {image_root}, and are expected in {linked}")
    return lines


def as_entry(layout: Layout, split: str, record: Record, image_root: Path) -> dict[str, Any]:
    """Return a record as an entry of a layout's annotation file."""
    translations = {layout.translations_field: list(record.translations)}
    return {
        "split": split,
        layout.id_field: record.pid,
        layout.path_field: record.image_path.relative_to(image_root).as_posix(),
        layout.captions_field: list(record.captions),
    } | (translations if record.translations else {})


def as_text(
    layout: Layout,
    entries: list[dict[str, Any]],
    *,
    persons: Mapping[int, str],
    folder: str = "imgs/",
) -> str:
    """Return entries as the text of a layout's annotation file.

    Args:
        layout: File and field names.
        entries: From `as_entry`.
        persons: Names of identities, which only a table can hold.
        folder: What the paths of a table begin with.
    """
    if not layout.is_table:
        return json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    further = [layout.translations_field]
    are_translated = any(further[0] in entry for entry in entries)
    table.writerow([*layout.fields, *(further if are_translated else ())])
    for entry in entries:
        pid, captions = entry[layout.id_field], entry[layout.captions_field]
        translations = entry.get(further[0]) or [""] * len(captions)
        path = f"{folder}{entry[layout.path_field]}"
        for caption, translation in zip(captions, translations, strict=True):
            row = [path, _cell(caption), persons.get(pid, pid), entry["split"]]
            table.writerow([*row, *([_cell(translation)] if are_translated else ())])
    return text.getvalue()


def _cell(text: str) -> str:
    """Return a text as a table's cell; what would be read as a list is written as one."""
    return json.dumps([text]) if text.lstrip().startswith("[") else text


def _read(source: str, root: Path) -> Annotations:
    """Return a data set as its file has it, with the splits that training would make."""
    if source != CUSTOM.name:
        return read_annotations(LAYOUTS[source], root)
    read, has_splits = read_table(root, repeats="warn")
    if has_splits:
        return read
    return replace(read, splits=made_splits(read))


def _text(layout: Layout, splits: Splits, image_root: Path, persons: Mapping[int, str]) -> str:
    entries = [
        as_entry(layout, split, record, image_root)
        for split, records in splits.items()
        for record in records
    ]
    return as_text(layout, entries, persons=persons)


def _left_out(read: Annotations, layout: Layout) -> list[str]:
    """Return lines on what the layout, or every layout but the source's, cannot hold."""
    lines = [f"left out: {name!r} of {n:,} entries" for name, n in sorted(read.further.items())]
    if layout.is_table:
        records = [(s, r.image_path, r.pid) for s, group in read.splits.items() for r in group]
        if again := len(records) - len(set(records)):
            lines.append(f"joined: {again:,} entries with earlier ones of the same image")
    elif read.persons:
        lines.append(
            f"left out: the names of {len(read.persons):,} persons, who are numbered in their order"
        )
    return lines


def _place_images(splits: Splits, image_root: Path, place: Path, *, copied: bool) -> None:
    if place.exists() or place.is_symlink():
        raise FileExistsError(
            f"{place}: expected no such folder, got one that is not {image_root}; choose another "
            "folder, or images that are left where they are"
        )
    if place.parent.resolve().is_relative_to(image_root):
        raise ValueError(
            f"{place.parent}: expected a folder that is not among the images of {image_root}"
        )
    if not copied:
        place.symlink_to(image_root, target_is_directory=True)
        return

    def copy(folder: Path) -> None:
        for path in {r.image_path: None for records in splits.values() for r in records}:
            file = folder / path.relative_to(image_root)
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, file)

    build_once(place, copy, on_wait=lambda: None)
