"""Images that are missing: what each split loses, and files that may be meant instead."""

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from tireid.data.records import Splits
from tireid.doctor.findings import SHOWN, Finding, first, number

# What is looked at below the folder of the images, which may be a link to anywhere.
_MOST_FILES = 300_000
_SECONDS = 10
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".rar", ".7z")


def missing_findings(splits: Splits, missing: set[Path], image_root: Path) -> list[Finding]:
    """Return what each split loses by missing images, and where files like them are.

    Args:
        splits: Records of each split.
        missing: Paths of records that lead to nothing.
        image_root: The folder of the images.
    """
    if not missing:
        return []
    cost = {
        split: sum(record.image_path in missing for record in records)
        for split, records in splits.items()
    }
    total = {split: len(records) for split, records in splits.items()}
    shares = [f"{n:,} of {total[split]:,} of {split}" for split, n in cost.items() if n]
    examples = _by_folder(splits, missing, image_root) or [
        str(path.relative_to(image_root)) for path in sorted(missing)
    ]
    alike = _alike(missing, image_root)
    advice = "see the next: files of nearly their names are there" if alike else _advice(image_root)
    return [
        Finding(
            f"{number(len(missing), 'image')} missing below {image_root}: {', '.join(shares)}",
            advice,
            examples=tuple(examples[: 2 * SHOWN]),
        ),
        *alike,
    ]


def packed(folder: Path) -> list[str]:
    """Return the names of the archives in a folder."""
    try:
        return sorted(p.name for p in folder.iterdir() if p.suffix.lower() in ARCHIVES)
    except OSError:
        return []


def _advice(image_root: Path) -> str:
    for folder in (image_root, image_root.parent):
        if names := packed(folder):
            return f"training refuses this: unpack {', '.join(names[:SHOWN])} in {folder}"
    return "training refuses this: get what is missing from the owners"


def _by_folder(splits: Splits, missing: set[Path], image_root: Path) -> list[str]:
    folders: dict[str, Counter[str]] = defaultdict(Counter)
    for split, records in splits.items():
        for record in records:
            inner = record.image_path.relative_to(image_root).parts
            if record.image_path in missing and len(inner) > 1:
                whole = not (image_root / inner[0]).exists()
                folders[f"{inner[0]}/ {'is missing' if whole else 'lacks some'}"][split] += 1
    one_split = len(splits) == 1
    return [
        f"{name}: {', '.join(f'{n:,}' if one_split else f'{n:,} {s}' for s, n in counts.items())}"
        for name, counts in sorted(folders.items(), key=lambda item: -item[1].total())
    ]


def _alike(missing: set[Path], image_root: Path) -> list[Finding]:
    """Return the kinds of names by which files that are there differ from missing ones."""
    by_stem: defaultdict[str, list[str]] = defaultdict(list)
    for name in islice(_names(image_root), _MOST_FILES):
        by_stem[_stem(name)].append(name)
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(missing):
        name = path.relative_to(image_root).as_posix()
        if found := by_stem.get(_stem(name)):
            kind, other = _kind(name, found)
            kinds[kind].append(f"{name}, there is {other}")
    return [
        Finding(
            f"{len(places):,} of {number(len(missing), 'missing image')} {kind}",
            "rename or move the files, or write their names into the annotation file",
            examples=first(places),
        )
        for kind, places in kinds.items()
    ]


def _kind(name: str, found: Sequence[str]) -> tuple[str, str]:
    """Return in what the nearest of some files differs, and its name."""
    for other in found:
        if other.lower() == name.lower():
            return "differ from a file in capital letters", other
    for other in found:
        if Path(other).parent == Path(name).parent:
            return "have another ending than a file", other
    return "have the name of a file in another folder", found[0]


def _stem(name: str) -> str:
    return Path(name).stem.lower()


def _names(folder: Path) -> Iterator[str]:
    """Yield the paths of all files below a folder; links to folders are not followed."""
    end = time.monotonic() + _SECONDS
    for place, _, files in os.walk(folder):
        if time.monotonic() > end:
            return
        inner = Path(place).relative_to(folder)
        yield from ((inner / file).as_posix() for file in files)
