"""Own data: a table of images, captions and persons, as CSV or JSON Lines."""

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tireid.data.annotations import (
    LARGEST_ID,
    Annotations,
    EntryParser,
    Layout,
    check_fraction,
    check_splits,
    locate,
    with_validation,
)
from tireid.data.records import SPLITS, Record, Splits, hold_out, is_text
from tireid.data.split_counts import count
from tireid.data.table_rows import Row, read_rows

CUSTOM = Layout(
    name="custom",
    annotation_files=("captions.csv", "captions.jsonl"),
    path_field="image",
    foreign_files={
        "reid_raw.json": "this is in the layout of CUHK-PEDES; use dataset=cuhk_pedes",
        "ICFG-PEDES.json": "this is in the layout of ICFG-PEDES; use dataset=icfg_pedes",
        "ICFG_PEDES.json": "this is in the layout of ICFG-PEDES; use dataset=icfg_pedes",
        "data_captions.json": "this is in the layout of RSTPReid; use dataset=rstpreid",
        "captions.tsv": "rename captions.tsv to captions.csv: cells may be separated by tabs",
        "captions.json": "write each object of captions.json on a line of captions.jsonl",
        "captions.xlsx": "save captions.xlsx as captions.csv, in UTF-8",
    },
    id_field="person",
    captions_field="caption",
    is_table=True,
)
_SPLITS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
# What programs write where there is nothing.
_NOBODY = frozenset({"nan", "NaN", "None", "null", "N/A"})
_DECIMAL = re.compile(r"[0-9]{1,19}\.0+")
_LONGEST_NAME = 1_000  # characters of a person's name
_DIGITS = len(str(LARGEST_ID))


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
    entries, persons = as_entries(rows, image_root)
    parse = EntryParser(CUSTOM, file, image_root)
    splits = merged(parse(line, entry) for line, entry in entries)
    check_splits(CUSTOM, splits, file, repeats)
    _warn_of_repeated_rows(splits, file)
    further = Counter(name for _, entry in entries for name in _further(entry))
    return Annotations(file, image_root, splits, persons, further), has_splits


def image_root_of(folder: Path) -> Path:
    """Return the folder below which the images of a table lie: `imgs/`, or its own without one."""
    return folder / "imgs" if (folder / "imgs").is_dir() else folder


def names_splits(rows: Sequence[Row]) -> bool:
    """Whether any row names its split."""
    return any(isinstance(row, dict) and row.get("split") not in (None, "") for _, row in rows)


def as_entries(rows: Sequence[Row], image_root: Path) -> tuple[list[Row], dict[int, str]]:
    """Return rows as entries that number their persons.

    Whole numbers stay; any other names are numbered in their sorted order.

    Args:
        rows: From `read_rows`.
        image_root: The folder of the images; paths may begin with it or, if it is `imgs/`, with
            its name, and may be written as on Windows.

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
            row["split"] = _split_name(row.get("split")) if has_splits else "train"
            if isinstance(row.get("image"), str):
                row["image"] = _below(image_root, row["image"])
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


def _split_name(value: Any) -> Any:
    """Return the name of a split by its usual other names."""
    name = value.strip().lower() if isinstance(value, str) else value
    return _SPLITS.get(name, value) if isinstance(name, str) else value


def _below(image_root: Path, path: str) -> str:
    """Return an image's path from the folder of the images, with `/`."""
    if "\\" in path and not os.path.lexists(image_root / path):
        path = path.replace("\\", "/")
    if Path(path).is_absolute() and ".." not in Path(path).parts:
        roots = [root for root in (image_root, image_root.resolve()) if _leads(root, path)]
        return str(Path(path).relative_to(roots[0])) if roots else path
    return path.removeprefix("./").removeprefix("imgs/") if image_root.name == "imgs" else path


def _leads(folder: Path, path: str) -> bool:
    return Path(path) != folder and Path(path).is_relative_to(folder)


def _person(value: Any) -> str | None:
    """Return what a person is called; None: the value is no name.

    Whole numbers may be written as decimals: `7.0`, as programs do in a column with a gap.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or value.strip() in ("", *_NOBODY) or not is_text(value):
        return None
    if _DECIMAL.fullmatch(value.strip()):
        value = value.partition(".")[0]
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


def with_repeated_captions(splits: Splits) -> list[Record]:
    """Return the records that have one caption twice."""
    return [
        record
        for records in splits.values()
        for record in records
        if len(set(record.captions)) < len(record.captions)
    ]


def _warn_of_repeated_rows(splits: Splits, file: Path) -> None:
    again = with_repeated_captions(splits)
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
