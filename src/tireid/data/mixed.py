"""Several data sets as one: their identities kept apart, their names kept with each record."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from tireid.data.layouts import READERS
from tireid.data.records import SPLITS, Record, Splits, renumber
from tireid.data.sources import shared_source_warnings

Sets = Mapping[str, Mapping[str, Any] | None]


def read_mixed(sets: Sets | None, *, root: str | Path | None = None) -> Splits:
    """Read several data sets and join their splits.

    Identities are numbered anew, set after set, each set's in the order of its own numbers.

    Args:
        sets: Options of each set's reader, by a name of the set: `root`, `val_fraction`, ..., and
            `layout`, the layout of its files, where the name is none of `READERS`.
        root: Folder of the sets without one of their own.

    Returns:
        Records that name their set as `source`.

    Raises:
        FileNotFoundError: If a data set is missing.
        ValueError: If no sets are given, a layout is unknown, or a data set is damaged.
    """
    if not sets:
        raise ValueError(
            "dataset.read.sets: expected data sets by name, got none; set for example "
            "'dataset.read.sets={cuhk_pedes: {root: A}, icfg_pedes: {root: B}}'"
        )
    joined: Splits = {split: [] for split in SPLITS}
    taken = 0
    layouts: list[str] = []
    for name, options in sets.items():
        given = {"root": root, **(options or {})}
        layout = given.pop("layout", name)
        if layout not in READERS:
            raise ValueError(
                f"dataset.read.sets.{name}.layout: expected one of {', '.join(READERS)}, got "
                f"{layout!r}"
            )
        layouts.append(layout)
        try:
            splits = READERS[layout](given.pop("root"), **given)
        except TypeError as error:
            raise ValueError(f"dataset.read.sets.{name}: expected options: {error}") from error
        taken += _join(joined, splits, name, taken)
    for message in shared_source_warnings(combinations(layouts, 2)):
        warnings.warn(message, stacklevel=2)
    return {split: renumber(records) for split, records in joined.items() if records}


def set_names(dataset: Mapping[str, Any]) -> list[str]:
    """Return the names of the sets of a data set's config; its own if it is not mixed.

    Args:
        dataset: The part `dataset` of a config.
    """
    read = dataset.get("read")
    sets = read.get("sets") if isinstance(read, Mapping) else None
    if not isinstance(sets, Mapping) or not sets:
        return [str(dataset.get("name"))]
    return [
        str(options.get("layout", name)) if isinstance(options, Mapping) else str(name)
        for name, options in sets.items()
    ]


def pids_by_set(records: Sequence[Record]) -> dict[str, frozenset[int]]:
    """Return the identities of each set of a mixed split; of any other split nothing."""
    found: dict[str, set[int]] = {}
    for record in records:
        if record.source:
            found.setdefault(record.source, set()).add(record.pid)
    return {name: frozenset(pids) for name, pids in found.items()}


def _join(joined: Splits, splits: Splits, name: str, taken: int) -> int:
    """Append a set's records, and return how many identities it has."""
    pids = sorted({record.pid for records in splits.values() for record in records})
    number = {pid: taken + position for position, pid in enumerate(pids)}
    for split, records in splits.items():
        joined[split] += [replace(r, pid=number[r.pid], source=name) for r in records]
    return len(pids)
