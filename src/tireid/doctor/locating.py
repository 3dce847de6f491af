"""Find the annotation files and the images of a data set, also where training would not look."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tireid.data.annotations import Layout
from tireid.data.custom import image_root_of
from tireid.data.layouts import LAYOUTS
from tireid.data.records import SPLITS
from tireid.doctor.entries import names_splits
from tireid.doctor.findings import Finding
from tireid.doctor.forms import is_annotation, is_there, read_rows
from tireid.doctor.layouts import layout_of_file
from tireid.doctor.missing import packed

_MOST_FOLDERS = 200
_MOST_FILES = 20  # of a folder that are opened because of their ending
_SAMPLE = 200
_TABLES = (".csv", ".jsonl", ".tsv")
_ENDINGS = (".json", *_TABLES)


class Place(NamedTuple):
    """The annotation files that were found.

    Attributes:
        files: Each with the split that its name says; None: its entries say it. Empty: none found.
        findings: How this differs from what training expects.
    """

    files: Sequence[tuple[str | None, Path]]
    findings: list[Finding]


def find_annotations(dataset: str, root: Path) -> Place:
    """Find the annotation files of a data set.

    Args:
        dataset: As `dataset=` names it.
        root: Its folder, a file of it, or a folder one or two levels above or below.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    layout, root = LAYOUTS[dataset], root.expanduser().absolute()
    if ".." in root.parts:
        root = root.resolve()
    if not root.exists():
        raise FileNotFoundError(f"{root}: expected the folder of {layout.name}, got no such folder")
    start = root if root.is_dir() else root.parent
    start = start.parent if start.name == "imgs" else start
    below = list(_below(start))
    above = [start.parent, start.parent / layout.name, start.parent.parent]
    for folder in (start, start / layout.name, *below, *above):
        for file in _files(folder):
            if file.name in layout.annotation_files or (file == root and is_annotation(file)):
                return Place([(None, file)], _misplaced(layout, root, file))
            other = layout_of_file(file.name)
            if other is not None and folder == start:
                return Place([], [_other_set(*other, file)])
    for folder in below:
        for file in _files(folder):
            other = layout_of_file(file.name)
            if other is not None:
                return Place([], [_other_set(*other, file)])
    for folder in (start, *below, *above):
        for file in _files(folder):
            if file.name in layout.foreign_files and is_annotation(file):
                is_read = not layout.is_table or file.suffix.lower() in _TABLES
                return Place([(None, file)] if is_read else [], [_foreign(layout, file)])
    for folder in (start, *below):
        found = _renamed(layout, root, folder)
        if found is not None:
            return found
    return Place([], [_nothing(layout, root, start)])


def find_images(layout: Layout, folder: Path, names: Sequence[str]) -> tuple[Path, list[Finding]]:
    """Find the folder below which the images lie.

    Args:
        layout: File and field names.
        folder: The folder of the annotation file.
        names: The images' paths, as the entries have them.

    Returns:
        The folder, and what is wrong about it.
    """
    expected = image_root_of(folder) if layout.is_table else folder / "imgs"
    sample = names[:: max(1, len(names) // _SAMPLE)]
    near = (expected, *_subfolders(expected), folder, *_subfolders(folder), folder.parent)
    candidates = [*near, *(inner for outer in _subfolders(folder) for inner in _subfolders(outer))]
    candidates += [folder.parent / "imgs", *_subfolders(folder.parent)]
    held = {place: _count_held(place, sample) for place in candidates[:_MOST_FOLDERS]}
    best = max(held, key=lambda place: held[place])  # of equals the first
    beside = sum(n for place, n in held.items() if place != best and place.parent == best.parent)
    if best == expected or held[best] <= max(held[expected], beside):
        if expected.is_dir():
            return expected, []
        return expected, [_no_folder(layout, expected)]
    wrong = Finding(
        f"the images lie below {best}, and are expected below {expected}",
        f"move that folder or link it: ln -s {best} {expected}"
        if not expected.exists()
        else f"move what is in {best} into {expected}",
    )
    return best, [wrong]


def _no_folder(layout: Layout, expected: Path) -> Finding:
    title = f"there is no folder {expected}, and the images are nowhere near"
    advice = f"put the images of {layout.name} into it, in the folders that the entries name"
    if expected.is_symlink():
        title = f"{expected} is a link to {expected.readlink()}, where nothing is"
        advice = f"mend the link: ln -sfn FOLDER {expected}"
    elif archives := packed(expected.parent):
        title = f"there is no folder {expected}"
        advice = f"unpack {', '.join(archives)} in {expected.parent}"
    return Finding(title, advice)


def _count_held(place: Path, names: Sequence[str]) -> int:
    count = 0
    for name in names:
        count += is_there(place, name)
    return count


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:
        return []


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.suffix.lower() in _ENDINGS and p.is_file())
    except OSError:
        return []


def _below(start: Path) -> Iterator[Path]:
    """Yield folders one and two levels further down; none inside `imgs/`."""
    level = [start]
    for _ in range(2):
        level = [p for folder in level for p in _subfolders(folder) if folder.name != "imgs"]
        level = level[:_MOST_FOLDERS]
        yield from level


def _misplaced(layout: Layout, root: Path, file: Path) -> list[Finding]:
    if file.name not in layout.annotation_files:
        return [_another_name(layout, file)]
    both = [name for name in layout.annotation_files if (file.parent / name).is_file()]
    if layout.is_table and len(both) > 1:
        title = f"two tables in {file.parent}: {' and '.join(both)}"
        return [Finding(title, "training refuses both: keep one")]
    if file.parent in (root, root / layout.name):
        return []
    return [_elsewhere(layout, root, file)]


def _elsewhere(layout: Layout, root: Path, file: Path) -> Finding:
    advice = f"set dataset.root={file.parent}"
    if file == root:
        return Finding(f"{root} is the annotation file of {layout.name}, not its folder", advice)
    return Finding(f"{root} is not the folder of {layout.name}: {file} lies elsewhere", advice)


def _other_set(dataset: str, layout: Layout, file: Path) -> Finding:
    return Finding(
        f"this is {layout.name}, by its annotation file {file}",
        f"use dataset={dataset}, and tireid doctor {dataset} {file.parent}",
    )


def _foreign(layout: Layout, file: Path) -> Finding:
    return Finding(
        f"{file.name} in place of {' or '.join(layout.annotation_files)}, in {file.parent}",
        layout.foreign_files[file.name],
    )


def _another_name(layout: Layout, file: Path) -> Finding:
    advice = f"rename it to {file.parent / _name_for(layout, file)}"
    if not layout.is_table and not names_splits(read_rows(file)):
        advice = f"a new name does not help: see what it lacks of {layout.annotation_files[0]}"
    return Finding(f"the annotation file has another name, {file}", advice)


def _name_for(layout: Layout, file: Path) -> str:
    same = (name for name in layout.annotation_files if Path(name).suffix == file.suffix.lower())
    return next(same, layout.annotation_files[0])


def _renamed(layout: Layout, root: Path, folder: Path) -> Place | None:
    """Return annotation files of a folder by what they hold, whatever their names are."""
    files = [
        file
        for file in _files(folder)[:_MOST_FILES]
        if (file.suffix.lower() in _TABLES) == layout.is_table and is_annotation(file)
    ]
    by_split = [
        (split, file)
        for split in SPLITS
        for file in files
        if split in file.stem.lower() and not _says_split(file)
    ][:_MOST_FILES]
    splits = {split for split, _ in by_split}
    if len(splits) > 1:
        names = ", ".join(file.name for _, file in by_split)
        wrong = Finding(
            f"one annotation file a split, as other repositories have them, in {folder}: {names}",
            f"--fix FILE writes them as one; put it into the folder of imgs/ as "
            f"{layout.annotation_files[0]}",
        )
        return Place(by_split, [wrong])
    if not files:
        return None
    misplaced = [] if folder in (root, root / layout.name) else [_elsewhere(layout, root, files[0])]
    return Place([(None, files[0])], [_another_name(layout, files[0]), *misplaced])


def _says_split(file: Path) -> bool:
    """Whether the entries of a file name several splits."""
    rows: list[Any] = read_rows(file)
    return len({str(row.get("split")) for row in rows if isinstance(row, dict)}) > 1


def _nothing(layout: Layout, root: Path, start: Path) -> Finding:
    found = [p.name + "/" * p.is_dir() for p in sorted(start.iterdir())]
    notes = [layout.foreign_files[name] for name in found if name in layout.foreign_files]
    advice = f"the owners hand out {' or '.join(layout.annotation_files)} beside the folder imgs/"
    if layout.is_table:
        advice = f"write {layout.annotation_files[0]} with the columns image, caption, person"
    if archives := packed(start):
        advice = f"unpack {', '.join(archives)}"
    return Finding(
        f"no annotation file of {layout.name} in {root}, two levels below it or above it",
        notes[0] if notes else advice,
        examples=(f"found: {', '.join(found[:10]) or 'nothing'}",),
    )
