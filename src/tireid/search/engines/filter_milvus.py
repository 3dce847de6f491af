"""Conditions as expressions of Milvus, over terms that are stored beside the fields of a row.

Milvus knows neither times nor dates: SQLite reads them, of values here as of rows elsewhere, so
that both engines answer alike.
"""

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing

from tireid.search.where import PATH, Comparison, Condition, Value, check_name

_NONE = "id < 0"
_TIMES = ("time", "date", "datetime")


def terms(fields: dict[str, Value]) -> dict[str, str | float]:
    """Return what filters compare: `NAME#KIND` to the value read as that kind."""
    found: dict[str, str | float] = {}
    for name, value in fields.items():
        if isinstance(value, str):
            found[f"{name}#text"] = value
            found |= {f"{name}#{kind}": t for kind, t in _times(value).items() if t is not None}
        elif value is not None:
            found[f"{name}#number"] = float(value)
    return found


def filter_milvus(
    condition: Condition, names: Sequence[str], containing: Callable[[str, str], Sequence[int]]
) -> str:
    """Return an expression that holds for the rows that match.

    Args:
        condition: The filter; a comparison with a field that a row lacks does not match.
        names: The fields that rows have.
        containing: Returns the ids of the rows whose field of a name contains a text.

    Raises:
        ValueError: If a comparison names another field.
    """
    if isinstance(condition, Comparison):
        check_name(condition.name, names)
        return _comparison(condition, containing)
    parts = [filter_milvus(part, names, containing) for part in condition.parts]
    if condition.operator == "not":
        return f"(not ({parts[0]}))"
    return "(" + f" {condition.operator} ".join(f"({part})" for part in parts) + ")"


def _comparison(comparison: Comparison, containing: Callable[[str, str], Sequence[int]]) -> str:
    name, operator, kind = comparison.name, comparison.operator, comparison.kind
    if operator == "~":
        ids = containing(name, str(comparison.values[0]))
        return f"id in [{', '.join(map(str, ids))}]" if ids else _NONE
    if name == PATH and kind != "text":
        return _NONE
    column = PATH if name == PATH else f"terms[{quoted(f'{name}#{kind}')}]"
    values = [literal for value in comparison.values if (literal := _literal(value, kind))]
    if not values:
        return _NONE
    sign = "==" if operator == "=" else operator
    compared = f"{column} {sign} " + (f"[{', '.join(values)}]" if sign == "in" else values[0])
    return compared if name == PATH else f"((exists {column}) and ({compared}))"


def _literal(value: str | int | float, kind: str) -> str:
    if kind == "number":
        return repr(float(value))
    text = _times(str(value))[kind] if kind in _TIMES else str(value)
    return "" if text is None else quoted(text)


def _times(text: str) -> dict[str, str | None]:
    with closing(sqlite3.connect(":memory:")) as reader:
        found = reader.execute("SELECT time(?1), date(?1), datetime(?1)", (text,)).fetchone()
    return dict(zip(_TIMES, found, strict=True))


def quoted(text: str) -> str:
    """Return a text as Milvus reads it in an expression."""
    return json.dumps(text, ensure_ascii=False)
