"""A filter as users write it, `camera=3 and time>10:00`, parsed into conditions."""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Literal, NoReturn

Value = str | int | float | None
Kind = Literal["number", "text", "time", "date", "datetime"]

PATH = "path"  # of the file: what every row has beside its fields
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<quoted>"[^"]*"|'[^']*')
    |(?P<operator><=|>=|!=|==|=|<|>|~)
    |(?P<bracket>[(),])
    |(?P<word>[^\s"'<>=!~(),]+)
    )""",
    re.VERBOSE,
)
_KINDS: dict[Kind, re.Pattern[str]] = {
    "number": re.compile(r"[+-]?\d{1,300}(\.\d{1,300})?"),
    "time": re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"),
    "date": re.compile(r"\d{4}-\d{2}-\d{2}"),
    "datetime": re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?"),
}
_CHECKS: dict[Kind, Callable[[str], object]] = {
    "time": time.fromisoformat,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
}
_MOST_WORDS, _DEEPEST = 10_000, 50  # of a filter: SQLite and Python bound both
_NAME = re.compile(r"[^\W\d][\w.-]*")
_GRAMMAR = "`NAME OPERATOR VALUE`, joined by and, or, not and brackets; as camera=3 and time>10:00"
_INTEGERS = range(-(2**63), 2**63)  # that SQLite keeps


@dataclass(frozen=True)
class Comparison:
    """A field compared with values.

    Attributes:
        name: Name of the field; `path` is the file's.
        operator: `=`, `!=`, `<`, `<=`, `>`, `>=`, `~` (contains, whatever the case), or `in`.
        values: One value, or for `in` some.
        kind: What the values are; rows whose field is of another kind do not match.
    """

    name: str
    operator: str
    values: tuple[str | int | float, ...]
    kind: Kind


@dataclass(frozen=True)
class Junction:
    """Conditions joined by `and` or `or`, or one behind `not`."""

    operator: Literal["and", "or", "not"]
    parts: tuple["Condition", ...]


Condition = Comparison | Junction


def check_name(name: str, names: Sequence[str]) -> None:
    """Check that rows have a field.

    Raises:
        ValueError: If none has it; names the nearest.
    """
    if name != PATH and name not in names:
        near = difflib.get_close_matches(name, [PATH, *names], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(
            f"where: expected a field of this index ({', '.join([PATH, *names])}), got {name!r}"
            f"{hint}"
        )


def parse_where(text: str) -> Condition:
    """Parse a filter.

    Args:
        text: Comparisons such as `camera=3`, `time>9:00`, `date>=2026-05-01`, `place="main gate"`,
            `path ~ hall` and `camera in (1, 2)`, joined by `and`, `or`, `not` and brackets. A name
            with spaces stands in quotes too.

    Raises:
        ValueError: If it is none; shows where.
    """
    parser = _Parser(text)
    condition = parser.disjunction()
    if parser.peek():
        parser.refuse()
    return condition


class _Parser:
    """Reads tokens from left to right: `or` binds less than `and`, and that less than `not`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []
        self._place = self._depth = position = 0
        end = len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                self._fail(position)
            kind = match.lastgroup or ""
            self._tokens.append((kind, match[kind], match.start(kind)))
            position = match.end()
        if len(self._tokens) > _MOST_WORDS:
            raise ValueError(
                f"where: expected at most {_MOST_WORDS:,} words, got {len(self._tokens):,}"
            )

    def peek(self) -> str:
        """Return the next token in lower case; empty at the end."""
        if self._place == len(self._tokens):
            return ""
        return self._tokens[self._place][1].lower()

    def refuse(self) -> NoReturn:
        """Raise for the next token."""
        at_end = self._place == len(self._tokens)
        self._fail(len(self._text) if at_end else self._tokens[self._place][2])

    def disjunction(self) -> Condition:
        """Read conditions joined by `or`."""
        parts = [self._conjunction()]
        while self._take("or"):
            parts.append(self._conjunction())
        return parts[0] if len(parts) == 1 else Junction("or", tuple(parts))

    def _conjunction(self) -> Condition:
        parts = [self._negation()]
        while self._take("and"):
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else Junction("and", tuple(parts))

    def _negation(self) -> Condition:
        if self._depth == _DEEPEST:
            raise ValueError(f"where: expected at most {_DEEPEST} brackets in a row, got more")
        self._depth += 1
        if self._take("not"):
            condition: Condition = Junction("not", (self._negation(),))
        elif self._take("("):
            condition = self.disjunction()
            self._expect(")")
        else:
            condition = self._comparison()
        self._depth -= 1
        return condition

    def _comparison(self) -> Condition:
        name = self._name()
        if self._take("in"):
            self._expect("(")
            values = [self._value()]
            while self._take(","):
                values.append(self._value())
            self._expect(")")
            return _one_of(name, values)
        operator = self._next("operator")
        value, kind = self._value()
        if operator == "~":
            return Comparison(name, operator, (str(value),), "text")
        return Comparison(name, "=" if operator == "==" else operator, (value,), kind)

    def _value(self) -> tuple[str | int | float, Kind]:
        kind, word, _ = self._tokens[self._place] if self.peek() else ("", "", 0)
        if kind not in ("word", "quoted"):
            self.refuse()
        self._place += 1
        if kind == "quoted":
            return word[1:-1], "text"
        for name, pattern in _KINDS.items():
            if pattern.fullmatch(word):
                return (number(word) if name == "number" else _read_time(word, name)), name
        return word, "text"

    def _name(self) -> str:
        if self.peek()[:1] in ("'", '"'):
            return self._next("quoted")[1:-1]
        name = self._next("word")
        if not _NAME.fullmatch(name):
            self._place -= 1
            self.refuse()
        return name

    def _take(self, word: str) -> bool:
        taken = self.peek() == word
        self._place += taken
        return taken

    def _expect(self, word: str) -> None:
        if not self._take(word):
            self.refuse()

    def _next(self, kind: str) -> str:
        if not self.peek() or self._tokens[self._place][0] != kind:
            self.refuse()
        self._place += 1
        return self._tokens[self._place - 1][1]

    def _fail(self, position: int) -> NoReturn:
        rest = self._text[position:]
        got = f"{rest!r} in {self._text!r}" if rest else f"the end of {self._text!r}"
        raise ValueError(f"where: expected {_GRAMMAR}; got {got}")


def _one_of(name: str, values: Sequence[tuple[str | int | float, Kind]]) -> Condition:
    """Return `in`, of values of several kinds one for each."""
    kinds: dict[Kind, None] = dict.fromkeys(kind for _, kind in values)
    parts = tuple(
        Comparison(name, "in", tuple(value for value, one in values if one == kind), kind)
        for kind in kinds
    )
    return parts[0] if len(parts) == 1 else Junction("or", parts)


def _read_time(text: str, kind: Kind) -> str:
    """Return a time, date or both with all their digits."""
    full = f"0{text}" if kind == "time" and text.index(":") == 1 else text
    try:
        _CHECKS[kind](full)
    except ValueError as error:
        raise ValueError(f"where: expected a {kind}, got {text!r}: {error}") from error
    return full


def number(text: str) -> int | float:
    """Return the number that a text of digits, with or without a point, stands for."""
    value = float(text) if "." in text else int(text)
    return value if isinstance(value, float) or value in _INTEGERS else float(value)
