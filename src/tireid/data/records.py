"""Records, an image with its captions each, and the checks of a data set's records."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

SPLITS = ("train", "val", "test")
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Record:
    """One image with its captions.

    Attributes:
        image_path: Absolute path of the image file.
        pid: The data set's own identity number.
        captions: At least one caption, none of them blank.
        image_id: Position of the image in its split.
        source: Name of its data set among several; empty if it is the only one.
        translations: The captions translated into another language and back, empty where one is
            missing; or none at all.
    """

    image_path: Path
    pid: int
    captions: tuple[str, ...]
    image_id: int
    source: str = ""
    translations: tuple[str, ...] = ()

    def translated(self) -> tuple[str, ...]:
        """Return a translation for each caption, empty where it is missing."""
        return self.translations or ("",) * len(self.captions)


Splits = dict[str, list[Record]]


def is_text(text: str) -> bool:
    """Return whether a string can be written: it holds no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def captions_of(records: Sequence[Record]) -> list[str]:
    """Return all captions, in the order of the records."""
    return [caption for record in records for caption in record.captions]


def translations_of(records: Sequence[Record]) -> list[str]:
    """Return a translation for each caption, empty where it is missing."""
    return [translation for record in records for translation in record.translated()]


def split_sha256(records: Sequence[Record], *, translated: bool = False) -> str:
    """Return a SHA-256 of a split's pids, file names and captions, in their order.

    Args:
        records: Those of the split.
        translated: Whether the translations of the captions count, too.
    """
    digest = hashlib.sha256()
    for record in records:
        line = [record.pid, record.image_path.name, *record.captions]
        line += record.translations if translated else ()
        digest.update(json.dumps(line).encode())
    return digest.hexdigest()


def hold_out(
    records: Sequence[Record], fraction: float, seed: int
) -> tuple[list[Record], list[Record]]:
    """Split records by identity into a larger and a smaller part.

    The choice depends on a hash of seed and identity, so that it is the same on every machine and
    library version, whatever the order of the records.

    Args:
        records: Records of at least two identities.
        fraction: Share of the identities in the smaller part; at least one identity.
        seed: Seed of the choice.

    Returns:
        The remaining records and those held out, both in their old order.

    Raises:
        ValueError: If no identity would remain.
    """
    pids = {record.pid for record in records}
    count = max(1, round(fraction * len(pids)))
    if count >= len(pids):
        raise ValueError(
            f"expected enough training identities to hold out {count} for validation,"
            f" got {len(pids)}; give the annotation file a val split,"
            " or set val_fraction=0"
        )
    held = set(
        sorted(pids, key=lambda pid: hashlib.sha256(f"{seed}:{pid}".encode()).digest())[:count]
    )
    return [r for r in records if r.pid not in held], [r for r in records if r.pid in held]


def shared_ids(splits: Splits) -> dict[tuple[str, str], list[int]]:
    """Return the identities that are in both of two splits, for the pairs of splits with any."""
    pids = {split: {record.pid for record in records} for split, records in splits.items()}
    shared = {pair: sorted(pids[pair[0]] & pids[pair[1]]) for pair in combinations(pids, 2)}
    return {pair: ids for pair, ids in shared.items() if ids}


def refuse_shared_ids(splits: Splits, file: Path) -> None:
    """Check that no identity is in two splits.

    Raises:
        ValueError: If one is; names the first few.
    """
    for (first, second), shared in shared_ids(splits).items():
        raise ValueError(
            f"{file}: expected every identity in one split, got {len(shared)} in both"
            f" {first} and {second}: {_shorten(shared)}"
        )


class Repeats(NamedTuple):
    """Entries of a split that name an image that an earlier entry names.

    Attributes:
        text: How many and which, in words.
        harmless: Whether split and identity are those of the earlier entry.
        pairs: Numbers of the earlier and the later entries.
    """

    text: str
    harmless: bool
    pairs: list[tuple[int, int]]


def find_repeats(splits: Splits, entries: str = "entries") -> list[Repeats]:
    """Return the images that are named more than once, under any path, by kind.

    Args:
        splits: Records whose `image_id` is the number of their entry.
        entries: The word for what has these numbers: `entries` or `lines`.
    """
    first: dict[tuple[int, int] | Path, tuple[str, Record]] = {}
    found: dict[tuple[str, bool], list[tuple[int, int]]] = {}
    for split, records in splits.items():
        for record in records:
            earlier, other = first.setdefault(_image_key(record.image_path), (split, record))
            if other is record:
                continue
            if earlier != split:
                kind = f"one of {earlier} names: it leaks"
            elif other.pid != record.pid:
                kind = "one of another identity names"
            else:
                kind = "an earlier entry names"
            text = f"of the {len(records)} entries of {split} name an image that {kind}"
            harmless = earlier == split and other.pid == record.pid
            found.setdefault((text, harmless), []).append((other.image_id, record.image_id))
    repeats: list[Repeats] = []
    for (text, harmless), pairs in found.items():
        shown = ", ".join(f"{one} and {another}" for one, another in pairs[:_SHOWN])
        text = f"{len(pairs)} {text}; the first are {entries} {shown}"
        repeats.append(Repeats(text, harmless, pairs))
    return repeats


def check_repeats(splits: Splits, file: Path, *, accept: bool, entries: str = "entries") -> None:
    """Check that an image is named once, under any path; warn where that does no harm.

    One image in two splits leaks, and one of two identities is wrong for one of them; one of the
    same identity counts as often as it is named. None is dropped.

    Args:
        splits: Records whose `image_id` is the number of their entry.
        file: The annotation file.
        accept: Whether to warn of what is wrong, too.
        entries: As in `find_repeats`.

    Raises:
        ValueError: Names the entries, unless they are accepted.
    """
    for text, harmless, _ in find_repeats(splits, entries):
        if not accept and not harmless:
            raise ValueError(
                f"{file}: {text}; mend the file, or accept it as it is: dataset.read.repeats=warn"
            )
        warnings.warn(f"{file}: {text}; each entry counts as an image of its own", stacklevel=3)


def _image_key(path: Path) -> tuple[int, int] | Path:
    """Return what is the same for all paths to a file."""
    try:
        state = path.stat()
    except OSError:
        return path
    return state.st_dev, state.st_ino


def exclude(splits: Splits, exclude_ids: Sequence[int], file: Path) -> Splits:
    """Return the splits without some identities.

    Raises:
        ValueError: If one of them is in no split.
    """
    unknown = set(exclude_ids) - {record.pid for records in splits.values() for record in records}
    if unknown:
        raise ValueError(
            f"exclude_ids: expected identities of {file}, got {_shorten(sorted(unknown))},"
            " which it does not hold"
        )
    return {
        split: [record for record in records if record.pid not in exclude_ids]
        for split, records in splits.items()
    }


def renumber(records: Sequence[Record]) -> list[Record]:
    """Return the records with their positions as `image_id`."""
    return [replace(record, image_id=position) for position, record in enumerate(records)]


def _shorten(values: Sequence[int]) -> str:
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(map(str, values[:_SHOWN])) + more
