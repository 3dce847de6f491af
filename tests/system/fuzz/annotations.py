"""Annotations that are right in an unusual way, and some that are wrong in a usual one."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

Entries = list[dict[str, Any]]


def mutate_annotations(file: Path, field: str, rng: Random) -> tuple[str, str]:
    """Change an annotation file as people do.

    Args:
        file: A JSON list of entries.
        field: Name of the field of an image's path.
        rng: Draws the change.

    Returns:
        What was done, and what is expected.
    """
    entries = json.loads(file.read_text())
    entry = rng.choice(entries)
    tables = [(_RIGHT, "accepted"), (_WRONG, "refused"), (_EITHER, "any")]
    table, expected = rng.choices(tables, weights=(8, 14, 3))[0]
    what = rng.choice(list(table))
    table[what](entries, entry, field, rng)
    file.write_text(json.dumps(entries, indent=rng.choice([None, 4])))
    return what, expected


def _shuffle(entries: Entries, _: Any, __: str, rng: Random) -> None:
    rng.shuffle(entries)


def _set(name: str, value: Any) -> Callable[..., None]:
    return lambda entries, entry, field, rng: entry.update({name: value})


def _set_path(change: Callable[[str], Any]) -> Callable[..., None]:
    return lambda entries, entry, field, rng: entry.update({field: change(entry[field])})


def _in_two_splits(entries: Entries, _: Any, field: str, rng: Random) -> None:
    train, test = (rng.choice([e for e in entries if e["split"] == s]) for s in ("train", "test"))
    test[field] = train[field]


def _of_two_people(entries: Entries, _: Any, field: str, rng: Random) -> None:
    first, other = (rng.choice([e for e in entries if e["id"] == pid]) for pid in (1, 7))
    other[field] = first[field]


def _id_in_two_splits(entries: Entries, _: Any, __: str, rng: Random) -> None:
    rng.choice([e for e in entries if e["split"] == "test"])["id"] = 1


_RIGHT: dict[str, Callable[..., None]] = {
    "in another order": _shuffle,
    "a field more": _set("processed_tokens", [["a", "b"]]),
    "a caption of other scripts": _set(
        "captions", ["\u0436\u0435\u043d, \u5973, \U0001f469\u200d"]
    ),
    "one caption as a text": _set("captions", "a person in red"),
    "many captions": _set("captions", ["a person in red"] * 50),
    "a short caption": _set("captions", ["x"]),
    "a path with ./": _set_path(lambda path: f"./{path}"),
    "the largest id": lambda entries, entry, field, rng: [
        e.update(id=2**63 - 1) for e in entries if e["id"] == 30
    ],
}
_EITHER: dict[str, Callable[..., None]] = {  # refused, or cut or warned of, but soon
    "an image in two splits": _in_two_splits,
    "an image of two people": _of_two_people,
    "a caption of 50 MB": _set("captions", ["red " * 12_500_000]),
    "a word of 1,000,000 letters": _set("captions", ["r" * 1_000_000]),
}
_WRONG: dict[str, Callable[..., None]] = {
    "a person in two splits": _id_in_two_splits,
    "a negative id": _set("id", -1),
    "an id too large": _set("id", 2**63),
    "an id as a text": _set("id", "7"),
    "an id of half": _set("id", 0.5),
    "an id of truth": _set("id", True),
    "another split": _set("split", "gallery"),
    "no caption": _set("captions", []),
    "a blank caption": _set("captions", ["a person", " "]),
    "a caption of a number": _set("captions", [7]),
    "a caption of half a character": _set("captions", ["a \ud800 person"]),
    "a path that leaves": _set_path(lambda path: f"../../outside/{path}"),
    "an absolute path": _set_path(lambda path: "/etc/hostname"),
    "a path of zero": _set_path(lambda path: f"{path}\0"),
    "a path of half a character": _set_path(lambda path: f"\udc80{path}"),
    "no path": _set_path(lambda path: ""),
    "a folder as path": _set_path(lambda path: "."),
}
