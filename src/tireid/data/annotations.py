"""Read an annotation file into records, and check each of its entries."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tireid.data.content import describe_content
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

LARGEST_ID = 2**63 - 1  # batches hold identities as int64
# Characters of a caption; the longest published ones have some 1,500. To learn a vocabulary takes
# time by the square of the longest word.
_LONGEST_CAPTION = 10_000
LARGEST_FILE = 2**30  # bytes
_TEXT = f"at most {_LONGEST_CAPTION:,} characters, no lone surrogate in it"
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Layout:
    """File and field names of a data set.

    Attributes:
        name: Name of the data set and of its folder.
        annotation_files: Accepted names of the annotation file, a JSON list or a table.
        path_field: Field of an entry that holds the image's path below `imgs/`.
        foreign_files: Names of files often found instead, each with a note about it.
        id_field: Field that holds the identity.
        captions_field: Field that holds the captions.
        is_table: Whether the file is a table with rows on lines, as CSV or JSON Lines; its images
            may lie beside it without `imgs/`.
    """

    name: str
    annotation_files: tuple[str, ...]
    path_field: str
    foreign_files: Mapping[str, str]
    id_field: str = "id"
    captions_field: str = "captions"
    is_table: bool = False

    @property
    def translations_field(self) -> str:
        """Field that may hold the captions translated into another language and back."""
        return f"{self.captions_field}_bt"

    @property
    def fields(self) -> tuple[str, str, str, str]:
        """The fields of an entry."""
        return self.path_field, self.captions_field, self.id_field, "split"

    @property
    def entries(self) -> str:
        """The word for the entries of the file, whose numbers messages name."""
        return "lines" if self.is_table else "entries"

    def place(self, file: Path, number: int) -> str:
        """Return where an entry stands, for messages."""
        return f"{file}:{number}" if self.is_table else f"{file}: entry {number}"


@dataclass(frozen=True, slots=True)
class Annotations:
    """An annotation file as it stands, before anything is left out or held out.

    Attributes:
        file: The annotation file.
        image_root: The folder of the images.
        splits: Records whose `image_id` is the number of their entry.
        persons: What the file calls the identities that it does not number.
        further: Further fields of the entries, with the number of entries that have each.
    """

    file: Path
    image_root: Path
    splits: Splits
    persons: Mapping[int, str] = field(default_factory=dict)
    further: Mapping[str, int] = field(default_factory=dict)


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
    check_fraction("val_fraction", val_fraction)
    read = read_annotations(layout, root, repeats=repeats)
    splits = exclude(read.splits, exclude_ids, read.file)
    return with_validation(splits, val_fraction, split_seed, read.file)


def read_annotations(
    layout: Layout, root: str | Path | None, *, repeats: str = "warn"
) -> Annotations:
    """Read and check an annotation file, a JSON list; see `read_layout`."""
    folder, file = locate(layout, root)
    image_root = folder / "imgs"
    parse = EntryParser(layout, file, image_root)
    splits: Splits = {split: [] for split in SPLITS}
    further: Counter[str] = Counter()
    for number, entry in enumerate(load_entries(file)):
        split, record = parse(number, entry)
        splits[split].append(record)
        further.update(entry.keys() - {*layout.fields, layout.translations_field})
    check_splits(layout, splits, file, repeats)
    return Annotations(file, image_root, splits, further=further)


def check_fraction(name: str, fraction: float) -> None:
    """Check the share of the identities that a split gets.

    Raises:
        ValueError: If it is none; names the setting.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"{name}: expected a number in [0, 1), got {fraction}")


def check_splits(layout: Layout, splits: Splits, file: Path, repeats: str) -> None:
    """Check that splits share no identity, and that an image is named once.

    Args:
        layout: File and field names.
        splits: Records whose `image_id` is the number of their entry.
        file: The annotation file.
        repeats: As in `read_layout`.

    Raises:
        ValueError: If they do; names the identities or entries.
    """
    if repeats not in ("refuse", "warn"):
        raise ValueError(f"repeats: expected refuse or warn, got {repeats!r}")
    refuse_shared_ids(splits, file)
    check_repeats(splits, file, entries=layout.entries, accept=repeats == "warn")


def with_validation(splits: Splits, fraction: float, seed: int, file: Path) -> Splits:
    """Return splits, numbered anew, with identities of `train` held out where `val` is empty.

    Args:
        splits: The records of each split.
        fraction: Share of the training identities; 0 holds none out.
        seed: Seed of the choice.
        file: The annotation file, for messages.

    Raises:
        ValueError: If no identity would remain.
    """
    train, val = splits["train"], splits["val"]
    if not val and train and fraction > 0:
        try:
            train, val = hold_out(train, fraction, seed)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
    complete = {"train": train, "val": val, "test": splits["test"]}
    return {split: renumber(records) for split, records in complete.items() if records}


class EntryParser:
    """Turns an entry of the annotation file into a split's name and a record.

    Args:
        layout: File and field names.
        annotation_file: Its path, for messages.
        image_root: The folder that no image's path may leave.
    """

    def __init__(self, layout: Layout, annotation_file: Path, image_root: Path) -> None:
        self._layout = layout
        self._file = annotation_file
        self._image_root = Path(os.path.realpath(image_root))  # no error of a link to itself
        self._inside: dict[Path, bool] = {}

    def __call__(self, number: int, entry: Any) -> tuple[str, Record]:
        """Return the split and the record of the entry of a number.

        Args:
            number: Of the entry in its file, or its line.
            entry: What the file holds; an error: why it cannot be read.

        Raises:
            ValueError: If the entry breaks the layout's rules; names it.
        """
        place = self._layout.place(self._file, number)
        if isinstance(entry, ValueError):
            raise ValueError(f"{place}: {entry}")
        if not isinstance(entry, dict):
            raise ValueError(f"{place}: expected an object, got {describe(entry)}")
        if isinstance(entry, _Repetitive):
            raise ValueError(
                f"{place}: expected every field once, got {entry.again!r} more than once"
            )
        split = entry.get("split")
        if not isinstance(split, str) or split.strip().lower() not in SPLITS:
            raise self._error(number, entry, "split", f"one of {', '.join(SPLITS)}")
        pid = entry.get(self._layout.id_field)
        if not isinstance(pid, int) or isinstance(pid, bool) or not 0 <= pid <= LARGEST_ID:
            kind = "a name or number" if self._layout.is_table else "a non-negative integer"
            raise self._error(number, entry, self._layout.id_field, kind)
        captions = self._captions(number, entry)
        path = self._image_path(number, entry)
        translations = self._translations(number, entry, len(captions))
        record = Record(path, pid, captions, image_id=number, translations=translations)
        return split.strip().lower(), record

    def _translations(self, number: int, entry: dict[str, Any], count: int) -> tuple[str, ...]:
        field = self._layout.translations_field
        found = entry.get(field)
        if found is None or found == "":
            return ()
        texts = [found] if isinstance(found, str) else found
        if not isinstance(texts, list) or len(texts) != count or not _are_texts(texts):
            expected = f"a text for each of {count} captions of {_TEXT}, empty where there is none"
            raise self._error(number, entry, field, expected)
        return tuple(text if text.strip() else "" for text in texts)

    def _captions(self, number: int, entry: dict[str, Any]) -> tuple[str, ...]:
        field = self._layout.captions_field
        captions = entry.get(field)
        if isinstance(captions, str):
            captions = [captions]
        if (
            not isinstance(captions, list)
            or not captions
            or not all(isinstance(caption, str) and caption.strip() for caption in captions)
        ):
            expected = "one caption or a list of at least one, none blank"
            raise self._error(number, entry, field, expected)
        if not _are_texts(captions):
            raise self._error(number, entry, field, f"text of {_TEXT}")
        return tuple(captions)

    def _image_path(self, number: int, entry: dict[str, Any]) -> Path:
        expected = f"the image's path below {self._image_root}"
        field = self._layout.path_field
        name = entry.get(field)
        if not isinstance(name, str) or not name.strip() or "\0" in name or not is_text(name):
            raise self._error(number, entry, field, expected)
        path = self._image_root / name
        leaves = Path(name).is_absolute() or ".." in Path(name).parts
        try:
            leaves = leaves or not self._is_inside(path)
        except (OSError, RuntimeError) as error:  # a link that leads to itself, a name too long
            expected = f"{expected} that can be followed ({error})"
            raise self._error(number, entry, field, expected) from error
        if leaves:
            expected = (
                f"{expected}, which it must not leave (absolute, '..' or a link; copy or mount the"
                " images there, or let imgs/ as a whole be a link)"
            )
            raise self._error(number, entry, field, expected)
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
        got = describe(entry[field]) if field in entry else f"no such field; has {sorted(entry)}"
        place = self._layout.place(self._file, number)
        return ValueError(f"{place}: field '{field}': expected {expected}, got {got}")


def _are_texts(values: list[Any]) -> bool:
    return all(
        isinstance(text, str) and len(text) <= _LONGEST_CAPTION and is_text(text) for text in values
    )


def dataset_folder(name: str, root: str | Path | None, what: str = "") -> Path:
    """Return the folder of a data set.

    Args:
        name: Name of the data set.
        root: The folder.
        what: What the folder holds, for the message.

    Raises:
        ValueError: If there is none; tells how to set it.
    """
    if root is None or not str(root).strip():
        raise ValueError(
            f"{name}: expected the folder of the data set, got none; set dataset.root=DIR{what}"
        )
    return Path(root).expanduser().absolute()


def locate(layout: Layout, root: str | Path | None) -> tuple[Path, Path]:
    """Return the folder and the annotation file of a data set.

    Args:
        layout: File and field names.
        root: The folder, or its parent.

    Raises:
        FileNotFoundError: If the file or `imgs/` is missing; tells what is there.
        ValueError: If no folder is given.
    """
    files = " or ".join(layout.annotation_files)
    root = dataset_folder(layout.name, root, f", where DIR or DIR/{layout.name} holds {files}")
    for folder in (root, root / layout.name):
        for name in layout.annotation_files:
            if (folder / name).is_file():
                if not layout.is_table and not (folder / "imgs").is_dir():
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


def parse_json(text: str) -> Any:
    """Return what a text in JSON holds; an object with a field twice is refused as an entry."""
    return json.loads(text, object_pairs_hook=_object)


class IncompleteFileError(ValueError):
    """An annotation file that does not end as one does, as after a download that broke off."""


def load_content(file: Path) -> Any:
    """Return what an annotation file holds, whatever its form.

    Raises:
        ValueError: If it is no regular file of bounded size, or no JSON in UTF-8; names the file.
        IncompleteFileError: If its end seems to be missing.
    """
    regular_file(file, largest=LARGEST_FILE)
    content = file.read_bytes()
    try:
        return parse_json(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # also of bytes, and of numbers of many digits
        kind, got = ValueError, describe_content(file) or f"{error} ({len(content)} bytes)"
        if str(error).startswith("Extra data") and file.suffix == ".json":
            got = f"{error}: more than one value; join them in one list"
        elif not content.rstrip().endswith((b"]", b"}")):
            kind, got = IncompleteFileError, f"{got}; is the file complete?"
        raise kind(f"{file}: expected valid JSON in UTF-8, got {got}") from error


def load_entries(file: Path) -> list[Any]:
    """Return the entries of an annotation file.

    Raises:
        ValueError: If it is no list in JSON; names the file.
    """
    content = load_content(file)
    if not isinstance(content, list) or not content:
        raise ValueError(
            f"{file}: expected a JSON list with one object an image, got {describe(content)}"
        )
    return content


def describe(value: Any) -> str:
    """Return a value in short, with its type, for messages."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
