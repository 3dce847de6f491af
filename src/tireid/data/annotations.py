"""Read an annotation file into records, and check each of its entries."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tireid.data.records import (
    SPLITS,
    Record,
    Splits,
    check_repeats,
    exclude,
    hold_out,
    is_text,
    refuse_shared_ids,
    renumber,
)
from tireid.runs.foreign import regular_file

_LARGEST_ID = 2**63 - 1  # batches hold identities as int64
# Characters of a caption; the longest published ones have some 1,500. To learn a vocabulary takes
# time by the square of the longest word.
_LONGEST_CAPTION = 10_000
_LARGEST = 2**30  # bytes
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Layout:
    """File and field names of a data set.

    Attributes:
        name: Name of the data set and of its folder.
        annotation_files: Accepted names of the annotation file, a JSON list.
        path_field: Field of an entry that holds the image's path below `imgs/`.
        foreign_files: Names of files often found instead, each with a note about it.
    """

    name: str
    annotation_files: tuple[str, ...]
    path_field: str
    foreign_files: Mapping[str, str]


def read_layout(
    layout: Layout,
    root: str | Path | None,
    *,
    exclude_ids: Sequence[int] = (),
    val_fraction: float = 0.05,
    split_seed: int = 0,
    repeats: str = "warn",
) -> Splits:
    """Read an annotation file into records for each split.

    Args:
        layout: File and field names.
        root: The folder that holds the annotation file and `imgs/`, or its parent.
        exclude_ids: Identities to leave out, from whichever split holds them.
        val_fraction: Share of the training identities, in [0, 1), that becomes the validation split
            when the file has none; at least one identity unless 0.
        split_seed: Seed of the choice of those identities.
        repeats: `refuse` or `warn`: what is done about an image of two identities or two splits.

    Returns:
        Records in the order of the file, for those of `train`, `val` and `test` that have any.

    Raises:
        FileNotFoundError: If the annotation file or `imgs/` is missing.
        ValueError: If the annotations break the layout's rules; the message names the entry.
    """
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction: expected a number in [0, 1), got {val_fraction}")
    if repeats not in ("refuse", "warn"):
        raise ValueError(f"repeats: expected refuse or warn, got {repeats!r}")
    folder, annotation_file = _locate(layout, root)
    entries = load_entries(annotation_file)
    parse = EntryParser(layout, annotation_file, folder / "imgs")
    splits: Splits = {split: [] for split in SPLITS}
    for number, entry in enumerate(entries):
        split, record = parse(number, entry)
        splits[split].append(record)
    refuse_shared_ids(splits, annotation_file)
    check_repeats(splits, annotation_file, accept=repeats == "warn")
    splits = exclude(splits, exclude_ids, annotation_file)
    if not splits["val"] and splits["train"] and val_fraction > 0:
        try:
            splits["train"], splits["val"] = hold_out(splits["train"], val_fraction, split_seed)
        except ValueError as error:
            raise ValueError(f"{annotation_file}: {error}") from error
    return {split: renumber(records) for split, records in splits.items() if records}


class EntryParser:
    """Turns an entry of the annotation file into a split's name and a record.

    Args:
        layout: File and field names.
        annotation_file: Its path, for messages.
        image_root: The folder that no image's path may leave.
    """

    def __init__(self, layout: Layout, annotation_file: Path, image_root: Path) -> None:
        self._path_field = layout.path_field
        self._file = annotation_file
        self._image_root = image_root.resolve()
        self._inside: dict[Path, bool] = {}

    def __call__(self, number: int, entry: Any) -> tuple[str, Record]:
        """Return the split and the record of the entry of a number.

        Raises:
            ValueError: If the entry breaks the layout's rules; names it.
        """
        if not isinstance(entry, dict):
            raise ValueError(
                f"{self._file}: entry {number}: expected an object, got {_describe(entry)}"
            )
        if isinstance(entry, _Repetitive):
            raise ValueError(
                f"{self._file}: entry {number}: expected every field once, got {entry.again!r} "
                "more than once"
            )
        split = entry.get("split")
        if not isinstance(split, str) or split.strip().lower() not in SPLITS:
            raise self._error(number, entry, "split", f"one of {', '.join(SPLITS)}")
        pid = entry.get("id")
        if not isinstance(pid, int) or isinstance(pid, bool) or not 0 <= pid <= _LARGEST_ID:
            raise self._error(number, entry, "id", "a non-negative integer")
        captions = entry.get("captions")
        if isinstance(captions, str):
            captions = [captions]
        if (
            not isinstance(captions, list)
            or not captions
            or not all(isinstance(caption, str) and caption.strip() for caption in captions)
        ):
            expected = "one caption or a list of at least one, none blank"
            raise self._error(number, entry, "captions", expected)
        if not all(len(caption) <= _LONGEST_CAPTION and is_text(caption) for caption in captions):
            expected = f"text of at most {_LONGEST_CAPTION:,} characters, no lone surrogate in it"
            raise self._error(number, entry, "captions", expected)
        path = self._image_path(number, entry)
        return split.strip().lower(), Record(path, pid, tuple(captions), image_id=number)

    def _image_path(self, number: int, entry: dict[str, Any]) -> Path:
        expected = f"the image's path below {self._image_root}"
        name = entry.get(self._path_field)
        if not isinstance(name, str) or not name.strip() or "\0" in name or not is_text(name):
            raise self._error(number, entry, self._path_field, expected)
        path = self._image_root / name
        leaves = Path(name).is_absolute() or ".." in Path(name).parts
        try:
            leaves = leaves or not self._is_inside(path)
        except (OSError, RuntimeError) as error:  # a link that leads to itself, a name too long
            expected = f"{expected} that can be followed ({error})"
            raise self._error(number, entry, self._path_field, expected) from error
        if leaves:
            expected = (
                f"{expected}, which it must not leave (absolute, '..' or a link; copy or mount the"
                " images there, or let imgs/ as a whole be a link)"
            )
            raise self._error(number, entry, self._path_field, expected)
        return path

    def _is_inside(self, path: Path) -> bool:
        # Folders are few and files many: a folder is resolved once, a file only if it is a link.
        folder = path.parent
        if folder not in self._inside:
            self._inside[folder] = folder.resolve().is_relative_to(self._image_root)
        if path.is_symlink():
            return path.resolve().is_relative_to(self._image_root)
        return self._inside[folder]

    def _error(self, number: int, entry: dict[str, Any], field: str, expected: str) -> ValueError:
        got = _describe(entry[field]) if field in entry else f"no such field; has {sorted(entry)}"
        return ValueError(
            f"{self._file}: entry {number}: field '{field}': expected {expected}, got {got}"
        )


def _locate(layout: Layout, root: str | Path | None) -> tuple[Path, Path]:
    if root is None or not str(root).strip():
        raise ValueError(
            f"{layout.name}: expected the folder of the data set, got none;"
            f" set dataset.root=DIR, where DIR or DIR/{layout.name} holds"
            f" {' or '.join(layout.annotation_files)}"
        )
    root = Path(root).expanduser().absolute()
    for folder in (root, root / layout.name):
        for name in layout.annotation_files:
            if (folder / name).is_file():
                if not (folder / "imgs").is_dir():
                    raise FileNotFoundError(_missing(layout, root, f"{folder / 'imgs'} is missing"))
                return folder, folder / name
    reason = "no annotation file" if root.is_dir() else f"{root} is not a folder"
    raise FileNotFoundError(_missing(layout, root, reason))


def _missing(layout: Layout, root: Path, reason: str) -> str:
    lines = [
        f"{layout.name}: {reason}; expected",
        f"  {root}/            (dataset.root, or one level further down in {layout.name}/)",
        f"    {' or '.join(layout.annotation_files)}",
        "    imgs/",
        "found",
    ]
    for folder in (root, root / layout.name):
        if folder.is_dir():
            names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            lines.append(f"  {folder}/: {', '.join(names[:_SHOWN]) or 'nothing'}{more}")
            lines += [
                f"  note: {layout.foreign_files[n]}" for n in names if n in layout.foreign_files
            ]
    for pattern in (
        f"{depth}{name}" for depth in ("*/", "*/*/") for name in layout.annotation_files
    ):
        for path in sorted(root.glob(pattern))[:1]:
            lines.append(f"  note: {path} exists; set dataset.root={path.parent}")
    if not root.is_dir():
        lines.append("  nothing")
    return "\n".join(lines)


class _Repetitive(dict[str, Any]):
    """An object of the file in which a field stands more than once, where the last would win."""

    again: str


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        content = _Repetitive(content)
        names = [name for name, _ in pairs]
        content.again = next(name for name in names if names.count(name) > 1)
    return content


def load_content(file: Path) -> Any:
    """Return what an annotation file holds, whatever its form.

    Raises:
        ValueError: If it is no regular file of bounded size, or no JSON in UTF-8; names the file.
    """
    regular_file(file, largest=_LARGEST)
    try:
        text = file.read_text(encoding="utf-8-sig")
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:  # also of bytes, and of numbers of many digits
        raise ValueError(
            f"{file}: expected valid JSON in UTF-8, got {error}"
            f" ({file.stat().st_size} bytes); is the file complete?"
        ) from error


def load_entries(file: Path) -> list[Any]:
    """Return the entries of an annotation file.

    Raises:
        ValueError: If it is no list in JSON; names the file.
    """
    content = load_content(file)
    if not isinstance(content, list) or not content:
        raise ValueError(
            f"{file}: expected a JSON list with one object an image, got {_describe(content)}"
        )
    return content


def _describe(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
