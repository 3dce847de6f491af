"""Conditions as SQL of SQLite; names and values only as parameters."""

import json
from collections.abc import Sequence
from typing import Any

from tireid.search.where import PATH, Comparison, Condition, Kind, check_name

# Times and dates also match those of a field that holds both, `2026-05-01 10:30:00`.
_READ: dict[Kind, str] = {
    "number": "CASE WHEN typeof({0}) IN ('integer', 'real') THEN {0} END",
    "text": "CASE WHEN typeof({0}) = 'text' THEN {0} END",
    "time": "CASE WHEN typeof({0}) = 'text' THEN time({0}) END",
    "date": "CASE WHEN typeof({0}) = 'text' THEN date({0}) END",
    "datetime": "CASE WHEN typeof({0}) = 'text' THEN datetime({0}) END",
}
_VALUE: dict[Kind, str] = {
    "number": "?",
    "text": "?",
    "time": "time(?)",
    "date": "date(?)",
    "datetime": "datetime(?)",
}


def filter_sql(condition: Condition, names: Sequence[str]) -> tuple[str, list[Any]]:
    """Return an expression that is 1 for matching rows and 0 for others, and its parameters.

    Args:
        condition: The filter; a comparison with a field that a row lacks does not match.
        names: The fields that rows have.

    Raises:
        ValueError: If a comparison names another field.
    """
    if isinstance(condition, Comparison):
        return _comparison_sql(condition, names)
    parts = [filter_sql(part, names) for part in condition.parts]
    parameters = [value for _, values in parts for value in values]
    if condition.operator == "not":
        return f"(NOT {parts[0][0]})", parameters
    return _joined([sql for sql, _ in parts], condition.operator.upper()), parameters


def _joined(parts: Sequence[str], operator: str) -> str:
    """Return parts joined in pairs: a long row of them would be too deep a tree for SQLite."""
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    return f"({_joined(parts[:half], operator)} {operator} {_joined(parts[half:], operator)})"


def _comparison_sql(comparison: Comparison, names: Sequence[str]) -> tuple[str, list[Any]]:
    name, operator = comparison.name, comparison.operator
    check_name(name, names)
    column = PATH if name == PATH else "json_extract(fields, ?)"
    read = _READ[comparison.kind].format(column)
    parameters: list[Any] = (
        [] if name == PATH else [f"$.{json.dumps(name, ensure_ascii=False)}"] * read.count("?")
    )
    value = _VALUE[comparison.kind]
    if operator == "in":
        sql = f"{read} IN ({', '.join([value] * len(comparison.values))})"
    elif operator == "~":
        read = column
        parameters = parameters[:1]
        sql = f"instr(lower({read}), lower({value})) > 0"
    else:
        sql = f"{read} {operator} {value}"
    return f"coalesce({sql}, 0)", [*parameters, *comparison.values]
