"""Own data: a table of images, captions and persons, as CSV or JSON Lines."""

import csv
import difflib
import io
import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tireid.data.annotations import (
    LARGEST_FILE,
    LARGEST_ID,
    Annotations,
    EntryParser,
    Layout,
    check_fraction,
    check_splits,
    describe,
    locate,
    parse_json,
    with_validation,
)
from tireid.data.records import SPLITS, Record, Splits, hold_out, is_text
from tireid.data.split_counts import count
from tireid.runs.foreign import regular_file

CUSTOM = Layout(
    name="custom",
    annotation_files=("captions.csv", "captions.jsonl"),
    path_field="image",
    foreign_files={
        "reid_raw.json": "this is in the layout of CUHK-PEDES; use dataset=cuhk_pedes",
        "ICFG-PEDES.json": "this is in the layout of ICFG-PEDES; use dataset=icfg_pedes",
        "ICFG_PEDES.json": "this is in the layout of ICFG-PEDES; use dataset=icfg_pedes",
        "data_captions.json": "this is in the layout of RSTPReid; use dataset=rstpreid",
    },
    id_field="person",
    captions_field="caption",
    is_table=True,
)
_NEEDED = ("image", "caption", "person")
_LONGEST_NAME = 1_000  # characters of a person's name
_DIGITS = len(str(LARGEST_ID))

Row = tuple[int, Any]


def read_custom(
    root: str | Path | None,
    *,
    val_fraction: float = 0.05,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    repeats: str = "refuse",
) -> Splits:
    """Read `captions.csv` or `captions.jsonl`, with columns image, caption, person and split.

    A column `caption_bt` may hold captions translated into another language and back.

    Args:
        root: The folder that holds the table, and the images in it or in `imgs/`.
        val_fraction: Share of the training persons, in [0, 1), that becomes the validation split
            where the table names none.
        test_fraction: Share of all persons, in [0, 1), that becomes the test split where the table
            names no splits at all.
        split_seed: Seed of both choices.
        repeats: `refuse` or `warn`: what is done about an image of two persons or two splits.

    Returns:
        Records in the order of the table, for those of `train`, `val` and `test` that have any.

    Raises:
        FileNotFoundError: If there is no table.
        ValueError: If it breaks the rules; the message names file and line.
    """
    check_fraction("val_fraction", val_fraction)
    read, has_splits = read_table(root, repeats=repeats)
    if has_splits:
        return with_validation(read.splits, val_fraction, split_seed, read.file)
    return made_splits(
        read, val_fraction=val_fraction, test_fraction=test_fraction, split_seed=split_seed
    )


def made_splits(
    read: Annotations,
    *,
    val_fraction: float = 0.05,
    test_fraction: float = 0.2,
    split_seed: int = 0,
) -> Splits:
    """Return the splits by person of a table that names none, and say so.

    Args:
        read: From `read_table`: all of it is `train`.
        val_fraction: As in `read_custom`.
        test_fraction: As in `read_custom`.
        split_seed: As in `read_custom`.

    Raises:
        ValueError: If there are too few persons.
    """
    splits = _split(read, test_fraction, split_seed)
    splits = with_validation(splits, val_fraction, split_seed, read.file)
    shares = ", ".join(f"{split} {count(records)['ids']}" for split, records in splits.items())
    warnings.warn(
        f"{read.file} names no splits; they are made by person with split_seed={split_seed}: "
        f"{shares} persons; write a column split to decide yourself",
        stacklevel=3,
    )
    return splits


def read_table(root: str | Path | None, *, repeats: str = "refuse") -> tuple[Annotations, bool]:
    """Return a table as it stands, and whether it names splits; without them all is `train`.

    Args:
        root: As in `read_custom`.
        repeats: As in `read_custom`.

    Raises:
        FileNotFoundError: If there is no table.
        ValueError: If it breaks the rules; the message names file and line.
    """
    folder, file = locate(CUSTOM, root)
    others = [name for name in CUSTOM.annotation_files if (folder / name).is_file()]
    if len(others) > 1:
        raise ValueError(f"{folder}: expected one table, got {' and '.join(others)}; keep one")
    rows, image_root = read_rows(file), image_root_of(folder)
    has_splits = names_splits(rows)
    entries, persons = as_entries(rows, below_imgs=image_root != folder)
    parse = EntryParser(CUSTOM, file, image_root)
    splits = merged(parse(line, entry) for line, entry in entries)
    check_splits(CUSTOM, splits, file, repeats)
    _warn_of_repeated_rows(splits, file)
    further = Counter(name for _, entry in entries for name in _further(entry))
    return Annotations(file, image_root, splits, persons, further), has_splits


def image_root_of(folder: Path) -> Path:
    """Return the folder below which the images of a table lie: `imgs/`, or its own without one."""
    return folder / "imgs" if (folder / "imgs").is_dir() else folder


def read_rows(file: Path) -> list[Row]:
    """Return the rows of a table, each with the number of its line.

    A row that cannot be read is the error that says why.

    Args:
        file: CSV, with commas, semicolons or tabs, or JSON Lines if its name ends so.

    Raises:
        ValueError: If the table is no text in UTF-8, is empty, or lacks a column; names the line.
    """
    content = regular_file(file, largest=LARGEST_FILE).read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{file}:{line}: expected text in UTF-8, got the byte 0x{content[error.start]:02x}; "
            "save the table as UTF-8"
        ) from error
    is_json = file.suffix.lower() == ".jsonl"
    rows = list(_json_rows(text) if is_json else _csv_rows(text, file))
    objects = [row for _, row in rows if isinstance(row, dict)]
    if is_json and objects:
        _check_columns(list(objects[0]), file)
    if not rows:
        raise ValueError(f"{file}: expected a line for each caption, got none")
    return rows


def names_splits(rows: Sequence[Row]) -> bool:
    """Whether any row names its split."""
    return any(isinstance(row, dict) and row.get("split") not in (None, "") for _, row in rows)


def as_entries(rows: Sequence[Row], *, below_imgs: bool) -> tuple[list[Row], dict[int, str]]:
    """Return rows as entries that number their persons.

    Whole numbers stay; any other names are numbered in their sorted order.

    Args:
        rows: From `read_rows`.
        below_imgs: Whether the images lie below `imgs/`, which paths may then begin with.

    Returns:
        The entries, each with its line, and the names of persons that are no numbers.
    """
    names = {
        name
        for _, row in rows
        if isinstance(row, dict) and (name := _person(row.get("person"))) is not None
    }
    numbered = {name: int(name) for name in names if _is_number(name)}
    if len(numbered) < len(names):
        numbered = {name: number for number, name in enumerate(sorted(names))}
    has_splits = names_splits(rows)
    entries: list[Row] = []
    for line, row in rows:
        if isinstance(row, dict):
            name = _person(row.get("person"))
            row.update({} if name is None else {"person": numbered[name]})
            row.update({} if has_splits else {"split": "train"})
            if below_imgs and isinstance(row.get("image"), str):
                row["image"] = row["image"].removeprefix("./").removeprefix("imgs/")
        entries.append((line, row))
    by_number = {number: name for name, number in numbered.items() if name != str(number)}
    return entries, by_number


def merged(rows: Iterable[tuple[str, Record]]) -> Splits:
    """Return records of which rows of one image, person and split are one, with all captions."""
    splits: dict[str, dict[tuple[Path, int], Record]] = {split: {} for split in SPLITS}
    for split, record in rows:
        key = record.image_path, record.pid
        known = splits[split].setdefault(key, record)
        if known is not record:
            captions = known.captions + record.captions
            translations = known.translated() + record.translated()
            splits[split][key] = replace(
                known, captions=captions, translations=translations if any(translations) else ()
            )
    return {split: list(records.values()) for split, records in splits.items()}


def _csv_rows(text: str, file: Path) -> Iterator[Row]:
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    line = 1
    try:
        for cells in reader:
            if not names:
                names = _check_columns(cells, file)
            elif cells and len(cells) != len(names):
                expected = f"expected {len(names)} cells, as the first line has"
                yield line, ValueError(f"{expected}, got {describe(cells)}; quote separators")
            elif cells:
                row: dict[str, Any] = dict(zip(names, cells, strict=True))
                for name in row.keys() & {CUSTOM.captions_field, CUSTOM.translations_field}:
                    row[name] = _captions(row[name])
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:  # what follows cannot be told apart
        raise ValueError(f"{file}:{line}: expected cells of CSV, got {error}") from error


def _json_rows(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except (ValueError, RecursionError) as error:
            yield number, ValueError(f"expected a JSON object on the line, got {error}")
            continue
        if type(row) is dict:  # not one with a field twice, which is refused
            row = {_column(name): value for name, value in row.items()}
        yield number, row


def _check_columns(written: Sequence[str], file: Path) -> list[str]:
    """Return the names of columns, or say which is missing and which may be meant."""
    names = [_column(name) for name in written]
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        near = ((n, difflib.get_close_matches(n, names, n=1, cutoff=0.5)) for n in missing)
        hints = "".join(f"; did you mean {name} by {found[0]}?" for name, found in near if found)
        raise ValueError(
            f"{file}:1: expected the columns {', '.join(_NEEDED)} and perhaps split, got "
            f"{describe(names)}, which lacks {', '.join(missing)}{hints}"
        )
    again = [name for name in (*_NEEDED, "split") if names.count(name) > 1]
    if again:
        raise ValueError(f"{file}:1: expected each column once, got {again[0]} more than once")
    return names


def _column(name: str) -> str:
    name = name.strip().lower()
    return {"captions": "caption", "captions_bt": "caption_bt"}.get(name, name)


def _captions(cell: str) -> str | list[Any]:
    """Return a cell's caption, or captions where it is a list of texts in JSON."""
    if cell.lstrip().startswith("["):
        try:
            content = json.loads(cell)
        except (ValueError, RecursionError):
            return cell
        if isinstance(content, list) and all(isinstance(caption, str) for caption in content):
            return content
    return cell


def _person(value: Any) -> str | None:
    """Return what a person is called; None: the value is no name."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip() or not is_text(value):
        return None
    return value.strip() if len(value) <= _LONGEST_NAME else None


def _is_number(name: str) -> bool:
    is_whole = name.isascii() and name.isdecimal() and len(name) <= _DIGITS
    return is_whole and str(int(name)) == name and int(name) <= LARGEST_ID


def _further(entry: Any) -> list[str]:
    return [
        name
        for name, value in entry.items()
        if name not in (*CUSTOM.fields, CUSTOM.translations_field) and value not in (None, "")
    ]


def _warn_of_repeated_rows(splits: Splits, file: Path) -> None:
    again = [
        record
        for records in splits.values()
        for record in records
        if len(set(record.captions)) < len(record.captions)
    ]
    if again:
        lines = ", ".join(str(record.image_id) for record in again[:10])
        warnings.warn(
            f"{file}: {len(again)} images have one caption twice, which counts twice; the first "
            f"are those of lines {lines}",
            stacklevel=3,
        )


def _split(read: Annotations, test_fraction: float, seed: int) -> Splits:
    check_fraction("test_fraction", test_fraction)
    train = read.splits["train"]
    test: list[Record] = []
    if test_fraction > 0:
        try:
            train, test = hold_out(train, test_fraction, seed)
        except ValueError as error:
            raise ValueError(
                f"{read.file}: expected splits, or persons enough to make them (3 or more), got "
                f"{count(train)['ids']}"
            ) from error
    return {"train": train, "val": [], "test": test}
