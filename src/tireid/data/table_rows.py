"""The rows of a table, from CSV or JSON Lines: cells by column, captions as texts or lists."""

import ast
import csv
import difflib
import io
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tireid.data.annotations import LARGEST_FILE, describe, parse_json
from tireid.runs.foreign import regular_file

_NEEDED = ("image", "caption", "person")
_TEXTS = {"caption", "caption_bt"}  # the second: translated into another language and back
# What other tables call them, for messages.
_OTHER_NAMES = {
    "image": ("file_path", "img_path", "image_path", "path", "file", "filename", "file_name"),
    "caption": ("description", "sentence", "text"),
    "person": ("id", "pid", "person_id", "identity", "label"),
    "split": ("set", "subset"),
}

Row = tuple[int, Any]


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
    rows = list(_json_rows(text, file) if is_json else _csv_rows(text, file))
    objects = [row for _, row in rows if isinstance(row, dict)]
    if is_json and objects:
        _check_columns(list(objects[0]), file)
    if not rows:
        raise ValueError(f"{file}: expected a line for each caption, got none")
    return rows


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
                for name in row.keys() & _TEXTS:
                    row[name] = _captions(row[name])
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:  # what follows cannot be told apart
        raise ValueError(f"{file}:{line}: expected cells of CSV, got {error}") from error


def _json_rows(text: str, file: Path) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except (ValueError, RecursionError) as error:
            if line.strip() in ("[", "{"):
                raise ValueError(
                    f"{file}:{number}: expected a JSON object on each line, got {line.strip()!r}; "
                    "write each object on one line, without commas between them"
                ) from error
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
        near = ((name, _meant(name, names)) for name in missing)
        hints = "".join(f"; did you mean {name} by {found}?" for name, found in near if found)
        raise ValueError(
            f"{file}:1: the table lacks {', '.join(missing)}{hints}; expected the columns "
            f"{', '.join(_NEEDED)} and perhaps split, separated by commas, semicolons or tabs, got "
            f"{describe(names)}"
        )
    again = [name for name in (*_NEEDED, "split") if names.count(name) > 1]
    if again:
        raise ValueError(f"{file}:1: expected each column once, got {again[0]} more than once")
    return names


def _meant(name: str, names: Sequence[str]) -> str | None:
    """Return which of the columns may be meant by one that is missing."""
    usual = (other for other in _OTHER_NAMES[name] if other in names)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return next(usual, next(iter(near), None))


def _column(name: str) -> str:
    name = name.strip().lower()
    return {"captions": "caption", "captions_bt": "caption_bt"}.get(name, name)


def _captions(cell: str) -> str | list[Any]:
    """Return a cell's caption, or captions where it is a list of texts in JSON or Python."""
    if cell.lstrip().startswith("["):
        for parse in (json.loads, _literal):
            try:
                content = parse(cell)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(content, list) and all(isinstance(caption, str) for caption in content):
                return content
    return cell


def _literal(cell: str) -> Any:
    with warnings.catch_warnings(action="ignore", category=SyntaxWarning):  # of odd backslashes
        return ast.literal_eval(cell.strip())
