"""What is known of an image beside its vector: read from its name, a list, or a caller."""

import math
import re
from pathlib import PurePath
from typing import Any

from tireid.search.where import Value, number

TIME = "time"
_NUMBER = re.compile(r"[+-]?\d{1,15}(\.\d{1,15})?")
_ONE_DIGIT = re.compile(r"\d:\d{2}(:\d{2})?")  # of the hour
# Digits that cameras write into names: hours to seconds, with the date before them or without.
_TIMES = (
    (re.compile(r"(\d{4})(\d{2})(\d{2})[T_-]?(\d{2})(\d{2})(\d{2})"), "{}-{}-{} {}:{}:{}"),
    (re.compile(r"(\d{2})(\d{2})(\d{2})"), "{}:{}:{}"),
)


def read_value(name: str, text: str) -> Value:
    """Return a field's value from text: a number if it is one, `HH:MM:SS` if it is a time.

    Args:
        name: Name of the field; digits of one named `time` are read as a time.
        text: What stands in the list or the file name; blank: unknown.
    """
    text = text.strip()
    if name == TIME:
        for digits, form in _TIMES:
            if match := digits.fullmatch(text):
                return form.format(*match.groups())
        if _ONE_DIGIT.fullmatch(text):
            return f"0{text}"
    if _NUMBER.fullmatch(text):
        return number(text)
    return text or None


def plain_value(value: Any) -> Value:
    """Return a value of JSON as a field's: what is no text and no number becomes text.

    NaN and infinity, which no other reader of JSON takes, are unknown; text is valid Unicode.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int | float | None) and not isinstance(value, bool):
        return value
    return valid_text(str(value))


def valid_text(text: str) -> str:
    """Return a text with the halves of characters, and bytes that are none, written out."""
    return text.encode(errors="backslashreplace").decode()


class NamePattern:
    r"""Reads fields from file names by the named groups of a regular expression.

    Args:
        pattern: As in `_c(?P<camera>\d+)_(?P<time>\d{6})`, found anywhere in the name without its
            folder; empty: nothing is read.

    Raises:
        ValueError: If it is no regular expression, or has no named group.
    """

    def __init__(self, pattern: str) -> None:
        try:
            self._pattern = re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"name-pattern: expected a regular expression, got {pattern!r}: {error}"
            ) from error
        if pattern and not self._pattern.groupindex:
            raise ValueError(
                f"name-pattern: expected named groups, as in '_c(?P<camera>\\d+)', got {pattern!r}"
            )

    def __call__(self, path: str) -> dict[str, Value]:
        """Return the fields in the name of a file; none if the pattern is not in it."""
        match = self._pattern.search(PurePath(path).name)
        groups = match.groupdict() if match else {}
        return {name: read_value(name, text) for name, text in groups.items() if text is not None}
