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
from tireid.data.synthetic import SYNTHETIC, read_synthetic

Sets = Mapping[str, Mapping[str, Any] | None]


def read_mixed(
    sets: Sets | None, *, root: str | Path | None = None, cache_dir: str | Path | None = None
) -> Splits:
    """Read several data sets and join their splits.

    Identities are numbered anew, set after set, each set's in the order of its own numbers.

    Args:
        sets: Options of each set's reader, by a name of the set: `root`, `val_fraction`, ..., and
            `layout`, the layout of its files, where the name is none of `READERS`; of `synthetic`,
            which may also be a layout, its settings.
        root: Folder of the sets without one of their own.
        cache_dir: As in `read_synthetic`.

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
        given = dict(options or {})
        layout = given.pop("layout", name)
        layouts.append(layout)
        taken += _join(joined, _read(name, layout, given, root, cache_dir), name, taken)
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


def _read(
    name: str,
    layout: Any,
    options: dict[str, Any],
    root: str | Path | None,
    cache_dir: str | Path | None,
) -> Splits:
    """Read one set."""
    readers = {**READERS, SYNTHETIC: read_synthetic}
    if layout not in readers:
        raise ValueError(
            f"dataset.read.sets.{name}.layout: expected one of {', '.join(readers)}, got {layout!r}"
        )
    is_made = layout == SYNTHETIC
    if is_made and "cache_dir" in options:  # else a foreign config could write anywhere
        raise ValueError(f"dataset.read.sets.{name}.cache_dir: set paths.cache_dir instead")
    place = cache_dir if is_made else options.pop("root", root)
    try:
        return readers[layout](place, **options)
    except TypeError as error:
        raise ValueError(f"dataset.read.sets.{name}: expected options: {error}") from error


def _join(joined: Splits, splits: Splits, name: str, taken: int) -> int:
    """Append a set's records, and return how many identities it has."""
    pids = sorted({record.pid for records in splits.values() for record in records})
    number = {pid: taken + position for position, pid in enumerate(pids)}
    for split, records in splits.items():
        joined[split] += [replace(r, pid=number[r.pid], source=name) for r in records]
    return len(pids)
