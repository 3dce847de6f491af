"""Hostile values, and damage to texts, JSON and YAML that is drawn from a generator."""

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

import yaml

SECRET = "TIREID_FUZZ_SECRET"  # noqa: S105 -- the name of a variable
DEPTH = 100_000

# Written into the text in the place of a value, since no library writes such documents.
_RAW_JSON = {
    "an integer of 5,000 digits": "9" * 5000,
    "1e400": "1e400",
    "deep lists": "[" * DEPTH + "]" * DEPTH,
    "deep objects": '{"a":' * DEPTH + "1" + "}" * DEPTH,
    "a lone surrogate": r'"\ud800"',
    "half a text": '"abc',
    "two values of one name": '{"id": 1, "id": 2}',
}
_RAW_YAML = {
    "an integer of 5,000 digits": "9" * 5000,
    "1e400": "1e400",
    "deep lists": "[" * 5000 + "]" * 5000,
    "a command": '!!python/object/apply:os.system ["touch executed"]',
    "a module": "!!python/module:os",
    "itself": "&itself [*itself]",
    "an unknown alias": "*nobody",
    "a date": "2001-01-01",
    "bytes": "!!binary aGFsbG8=",
    "a set": "!!set {a, b}",
    "an interpolation of the environment": f"'${{oc.env:{SECRET}}}'",
    "an interpolation of itself": "'${model}'",
    "a broken interpolation": "'${'",
    "half a list": "[1, 2",
}
_TEN_TIMES = [", ".join([f"*bomb{n}"] * 10) for n in range(11)]
_BOMB = "\n".join(f"bomb{n}: &bomb{n} [{text}]" for n, text in enumerate(["lol", *_TEN_TIMES]))
_MARK = "RAW-VALUE-HERE"


def scalars(outside: str) -> list[Any]:
    """Return values that are wrong in most places.

    Args:
        outside: A folder outside of the case's own, with files whose reading is noticed.
    """
    return [
        *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, -(2**63), 10**30, 0.5, -0.5, 1e308),
        *(float("nan"), float("inf"), float("-inf"), "", " ", "0", "-1", "null", "nan", "1e9999"),
        *([], {}, [[]], {"a": 1}, [None], ["a"] * 1000, {"_target_": "os.system"}),
        *(
            "\x1b[2J\x1b]0;title\x07",
            "\x00",
            "\u202eevil",
            "\ufeffbom",
            "e\u0301\U0001f468\u200d\U0001f469",
        ),
        *(
            "<script>alert(1)</script>",
            "[bold]",
            "[/]",
            "{{7*7}}",
            "%s%n",
            "=1+1",
            "a\nb\r\nc",
            "|",
        ),
        *("../outside/secret.txt", f"{outside}/secret.txt", f"{outside}", "/dev/zero", "~", "."),
        *("os.system", "tireid.data.images.os.system", "builtins.eval", "tireid.files.write_text"),
        *("x" * 300, "y" * 100_000, "/".join(["d"] * 3000)),
    ]


def printable_scalars() -> list[Any]:
    """Return those that can be typed: Hydra repeats what was, control characters too."""
    return [value for value in scalars("outside") if str(value).isprintable()]


def mutate_document(text: str, rng: Random, outside: str, *, is_yaml: bool) -> tuple[str, str]:
    """Return a damaged JSON or YAML document, and what was done to it."""
    tree = yaml.safe_load(text) if is_yaml else json.loads(text)
    found = list(places(tree, ""))
    kind = rng.random()
    if is_yaml and kind < 0.05:
        return f"{_BOMB}\n{text}", "bomb of aliases"
    if kind < 0.12 or not found:
        return mutate_text(text, rng)
    holder, key, name = rng.choice(found)
    if kind < 0.3:
        del holder[key]
        return _dump(tree, is_yaml), f"without {name}"
    if kind < 0.4:
        other, at, from_where = rng.choice(found)
        holder[key] = copy.deepcopy(other[at])
        return _dump(tree, is_yaml), f"{name} = value of {from_where}"
    if kind < 0.55:
        raws = _RAW_YAML if is_yaml else _RAW_JSON
        what = rng.choice(sorted(raws))
        holder[key] = _MARK
        quoted = _MARK if is_yaml else f'"{_MARK}"'
        return _dump(tree, is_yaml).replace(quoted, raws[what]), f"{name} = {what}"
    value = rng.choice(scalars(outside))
    if isinstance(holder, dict) and kind < 0.6:
        holder[value if isinstance(value, str) else repr(value)] = holder.pop(key)
        return _dump(tree, is_yaml), f"{name} is called {_short(value)}"
    holder[key] = value
    return _dump(tree, is_yaml), f"{name} = {_short(value)}"


def mutate_text(text: str, rng: Random) -> tuple[str, str]:
    """Return a text that is cut, doubled, emptied, shuffled or has odd characters in it."""
    at = rng.randrange(len(text) + 1)
    odd = rng.choice(["\x00", "\ufffe", "\x1b[31m", "\u2028", '"', "{", "]", ":", "\t", "é" * 10])
    choices = {
        "empty": "",
        "only space": " \n\t\n",
        f"cut at {at}": text[:at],
        f"{odd!r} at {at}": text[:at] + odd + text[at:],
        f"without {at} to {at + 20}": text[:at] + text[at + 20 :],
        "written twice": text + text,
        "with a byte order mark": "\ufeff" + text,
        "a list": "[]",
        "a number": "7",
        "a text": '"text"',
        "null": "null",
        "a line of 2,000,000 letters": text + "\n" + "z" * 2_000_000,
    }
    what = rng.choice(list(choices))
    return choices[what], what


def places(tree: Any, name: str) -> Iterator[tuple[Any, Any, str]]:
    """Yield the holder, key and full name of every value below a node of some name."""
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in list(items):
        inner = f"{name}.{key}" if name else str(key)
        yield tree, key, inner
        yield from places(value, inner)


def _dump(tree: Any, is_yaml: bool) -> str:
    if is_yaml:
        return yaml.safe_dump(tree, allow_unicode=False, width=1000)
    return json.dumps(tree)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:40]}... ({len(text):,} characters)"
