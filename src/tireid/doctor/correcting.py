"""A corrected copy of an annotation file: what training takes, in the layout's own form."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tireid.data.annotations import Layout
from tireid.data.conversion import as_entry, as_text
from tireid.data.records import Splits
from tireid.files import write_text


class Corrected(NamedTuple):
    """A corrected annotation file.

    Attributes:
        text: Of the file, its entries in the order of the original.
        kept: Number of its entries.
        changes: A line for each entry that it lacks.
    """

    text: str
    kept: int
    changes: list[str]


def correct(
    layout: Layout,
    splits: Splits,
    image_root: Path,
    refused: Sequence[str],
    unusable: Mapping[Path, str],
    *,
    persons: Mapping[int, str] | None = None,
    folder: str = "imgs/",
) -> Corrected:
    """Return the entries whose images can be read.

    What only its owner can decide stays: identities in two splits, and copies of images.

    Args:
        layout: File and field names.
        splits: Records whose `image_id` is the number of their entry.
        image_root: The folder of the images.
        refused: Messages of the entries that are no records.
        unusable: Images that cannot be read, with the reason.
        persons: Names of the identities of a table.
        folder: What the paths of a table begin with.
    """
    entries: dict[int, dict[str, Any]] = {}
    changes = [f"removed {message}" for message in refused]
    for split, records in splits.items():
        for record in records:
            name = record.image_path.relative_to(image_root).as_posix()
            if record.image_path in unusable:
                reason = unusable[record.image_path].removeprefix(f"{record.image_path}: ")
                changes.append(f"removed entry {record.image_id}: {name}: {reason}")
                continue
            entries[record.image_id] = as_entry(layout, split, record, image_root)
    kept = [entries[number] for number in sorted(entries)]
    text = as_text(layout, kept, persons=persons or {}, folder=folder)
    return Corrected(text, len(kept), changes)


def write_corrected(corrected: Corrected | None, file: Path, originals: Sequence[str]) -> list[str]:
    """Write a corrected annotation file.

    Args:
        corrected: Its content; None: there is none.
        file: A new file, in a folder that exists.
        originals: The annotation files that were read.

    Returns:
        A line for each change.

    Raises:
        FileExistsError: If the file is there.
        ValueError: If there is nothing to write.
    """
    if corrected is None or not corrected.kept:
        raise ValueError(
            f"--fix {file}: expected entries that name their split, image and captions, got none "
            f"in {', '.join(originals) or 'any file'}"
        )
    if file.exists() or file.is_symlink():
        raise FileExistsError(f"--fix {file}: expected the name of a new file, got one that exists")
    write_text(file, corrected.text)
    return [
        *corrected.changes,
        f"{corrected.kept:,} entries kept, {len(corrected.changes):,} removed",
    ]
