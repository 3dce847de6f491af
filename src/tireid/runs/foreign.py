"""Read files that may be anybody's: regular ones, of bounded size and depth, of known kinds."""

import json
import reprlib
import stat
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import yaml

from tireid.runs.hub import root_of

LARGEST_TEXT = 64 * 2**20  # bytes
LONGEST_LINE = 2**20  # characters
LARGEST_YAML = 2**20  # its parser takes seconds for this
DEEPEST = 64  # levels of nesting
_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "text",
    list: "a list",
    dict: "a mapping",
    NoneType: "null",
}
_LARGEST_NUMBER = 2**63


def regular_file(path: Path, *, inside: Path | None = None, largest: int | None = None) -> Path:
    """Return the path of a regular file, so that no read of it waits or leaves a folder.

    Args:
        path: The file, or a link to it.
        inside: Folder that it must lie in, links followed, see `tireid.runs.hub.root_of`; None:
            anywhere.
        largest: Most bytes; None: any number.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a pipe, a device or a folder, lies elsewhere, or is larger.
    """
    try:
        found, real = path.stat(), path.resolve(strict=True)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: expected a file, got no such file") from error
    except (OSError, RuntimeError) as error:  # links in a circle
        raise ValueError(f"{path}: expected a regular file, got {_reason(error)}") from error
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, a socket or a device"
        raise ValueError(f"{path}: expected a regular file, got {kind}")
    if inside is not None and not real.is_relative_to(root_of(inside)):
        raise ValueError(f"{path}: expected a file inside {inside}, got a link to {real}")
    if largest is not None and found.st_size > largest:
        raise ValueError(
            f"{path}: expected at most {largest / 2**20:,.0f} MiB, got {found.st_size / 2**20:,.0f}"
        )
    return path


def read_text(path: Path, *, inside: Path | None = None, largest: int = LARGEST_TEXT) -> str:
    """Return the content of a file as UTF-8 text.

    Args:
        path: The file.
        inside: As in `regular_file`.
        largest: As in `regular_file`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no regular file of that size with such text; names it.
    """
    content = regular_file(path, inside=inside, largest=largest).read_bytes()
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8, got {error}") from error


def read_lines(path: Path, *, encoding: str = "utf-8", inside: Path | None = None) -> Iterator[str]:
    """Return the lines of a text file of any length, with their ends, one by one.

    Args:
        path: The file.
        encoding: `utf-8`, or `utf-8-sig` where a mark may stand before the first line.
        inside: As in `regular_file`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no regular file with such text, or a line is too long.
    """
    return _lines(regular_file(path, inside=inside), encoding)


def _lines(path: Path, encoding: str) -> Iterator[str]:
    with path.open(encoding=encoding, newline="") as file:
        while line := file.readline(LONGEST_LINE + 1):
            if len(line) > LONGEST_LINE:
                raise ValueError(f"expected lines of at most {LONGEST_LINE:,} characters")
            yield line


def read_json(path: Path, what: str, kinds: Any = dict, *, inside: Path | None = None) -> Any:
    """Return the content of a JSON file.

    Args:
        path: The file.
        what: What it holds, for messages.
        kinds: Kinds of its values, as in `check`.
        inside: As in `regular_file`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or a value is of another kind; names file and field.
    """
    text = read_text(path, inside=inside)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        got = _reason(error) if text.strip() else "an empty file"
        raise ValueError(f"{path}: expected {what} in JSON, got {got}") from error
    _check_depth(content, path, what)
    return check(content, kinds, path, what=what)


def read_yaml(path: Path, what: str, *, inside: Path | None = None) -> Any:
    """Return the content of a YAML file, in which `${...}` is text and nothing is repeated.

    Args:
        path: The file.
        what: What it holds, for messages.
        inside: As in `regular_file`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, is nested too deep, or has aliases, by which a short file
            can stand for an endless one.
    """
    text = read_text(path, inside=inside, largest=LARGEST_YAML)
    try:
        return yaml.load(text, _Loader)  # noqa: S506 -- safe: a SafeLoader
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(
            f"{path}: expected {what}, got what cannot be read: {_reason(error)}"
        ) from error


def check(
    value: Any,
    kinds: Any,
    file: Path,
    field: str = "",
    *,
    what: str = "",
    complete: bool = False,
) -> Any:
    """Return a value whose parts have the kinds that are taken from it.

    Args:
        value: From a file.
        kinds: A type or a union of types (`int | None`), where floats may be whole and numbers are
            finite; `[kind]` for a list; `{name: kind}` for a mapping, of which any entry may be
            missing and others are not looked at; `{str: kind}` for any names; `(kind,)` for what
            may be null.
        file: The file, for messages.
        field: Name of the value in it.
        what: What the value is, in place of its kind, for messages.
        complete: Whether entries that `kinds` names must be there.

    Raises:
        ValueError: If a part is of another kind; names file and field.
    """
    if isinstance(kinds, tuple):
        kinds = NoneType if _is(value, NoneType) else kinds[0]
    outer = type(kinds) if isinstance(kinds, list | dict) else kinds
    if not _is(value, outer):
        named = get_args(outer) or (outer,)
        words = what or " or ".join(_WORDS.get(kind, f"a {kind.__name__}") for kind in named)
        kind = type(value).__name__
        got = f"a {kind}" if what else f"{reprlib.repr(value)} ({kind})"
        raise ValueError(f"{file}: {f'{field}: ' if field else ''}expected {words}, got {got}")
    if isinstance(kinds, list):
        for number, item in enumerate(value):
            check(item, kinds[0], file, f"{field}[{number}]", complete=complete)
    elif isinstance(kinds, dict):
        prefix = f"{field}." if field else ""
        missing = [name for name in kinds if name is not str and name not in value]
        for name in missing if complete else ():
            if not isinstance(kinds[name], dict):
                raise ValueError(f"{file}: {prefix}{name}: expected a value, got none")
            check({}, kinds[name], file, f"{prefix}{name}", complete=True)
        for name, item in value.items():
            kind = kinds.get(check(name, str, file, f"name {prefix}{name}"), kinds.get(str))
            if kind is not None:
                check(item, kind, file, f"{prefix}{name}", complete=complete)
    return value


def _is(value: Any, kind: Any) -> bool:
    kinds = get_args(kind) or (kind,)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return type(value) in kinds or (type(value) is not bool and isinstance(value, kinds))
    is_wanted = isinstance(value, kinds) or (isinstance(value, int) and float in kinds)
    return is_wanted and abs(value) < _LARGEST_NUMBER  # not so NaN


def _check_depth(content: Any, path: Path, what: str) -> None:
    level = [content]
    for _ in range(DEEPEST):
        level = [
            value
            for node in level
            if isinstance(node, list | dict)
            for value in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return
    raise ValueError(f"{path}: expected {what}, got more than {DEEPEST} levels of nesting")


class _Loader(yaml.SafeLoader):
    """Refuses aliases and deep nesting while it reads."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        mark = self.peek_event().start_mark  # pyright: ignore[reportOptionalMemberAccess]
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"an alias{mark}; write its value in its place")
        if self._depth == DEEPEST:
            raise yaml.YAMLError(f"more than {DEEPEST} levels of nesting{mark}")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "too many levels of nesting"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(reason.split())
