"""Examine a data set: where it is, what its files hold, and all findings, the worst first."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tireid.data import custom
from tireid.data.annotations import IncompleteFileError, Layout, load_entries
from tireid.data.layouts import LAYOUTS
from tireid.data.records import Splits
from tireid.data.split_counts import count
from tireid.data.table_rows import read_rows as read_table_rows
from tireid.doctor.captions import Cut, caption_findings, cut_shares
from tireid.doctor.correcting import Corrected, correct
from tireid.doctor.entries import (
    count_findings,
    identity_findings,
    names_splits,
    parse_entries,
)
from tireid.doctor.findings import Finding
from tireid.doctor.forms import as_entries, mend, other_fields, read_rows
from tireid.doctor.images import image_findings
from tireid.doctor.layouts import Published, published
from tireid.doctor.locating import Place, find_annotations, find_images
from tireid.doctor.words import Words, said_words, vocabulary_of
from tireid.files import file_sha256


@dataclass
class Examination:
    """What was found of a data set.

    Attributes:
        dataset: As `dataset=` names it.
        name: Its name in full.
        root: The folder that was asked for.
        terms: Who hands it out, and for what.
        files: SHA-256 of each annotation file.
        image_root: The folder of the images; None: not looked for.
        counts: Counts of each split of what can be read.
        declared: The published counts; None: none are expected.
        cuts: Captions longer than the text lengths in use.
        words: What the captions say; None: there are none.
        findings: The worst first.
        corrected: What `--fix` writes; None: there is nothing to read.
    """

    dataset: str
    name: str
    root: Path
    terms: str
    files: dict[str, str] = field(default_factory=dict)
    image_root: Path | None = None
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    declared: dict[str, dict[str, int]] | None = None
    cuts: list[Cut] = field(default_factory=list)
    words: Words | None = None
    findings: list[Finding] = field(default_factory=list)
    corrected: Corrected | None = None

    @property
    def harmful(self) -> list[Finding]:
        """The findings that lose data or falsify results."""
        return [finding for finding in self.findings if finding.harms]


def examine(
    dataset: str,
    root: Path,
    *,
    memory: Path,
    own: bool = False,
    model: Path | None = None,
    progress: bool = True,
) -> Examination:
    """Examine a data set; nothing of it is changed.

    Args:
        dataset: As `dataset=` names it.
        root: Its folder, also a level too high or too deep, or its annotation file.
        memory: Folder of the marks by which training remembers images that can be decoded.
        own: Whether the files are anybody's own, so that no published counts are expected.
        model: Folder of a run or an export, whose vocabulary the captions' words are looked for
            in; None: they are in that of the synthetic captions.
        progress: Whether to show progress bars on standard error.

    Raises:
        FileNotFoundError: If there is no such folder, or no tokenizer in the model's.
        ValueError: If the model's tokenizer is damaged.
    """
    known, vocabulary = published(dataset), vocabulary_of(model)
    if own:
        known = known._replace(counts=None)
    declared = None if known.counts is None else {s: dict(c) for s, c in known.counts.items()}
    result = Examination(dataset, LAYOUTS[dataset].name, root, known.terms, declared=declared)
    place = find_annotations(dataset, root)
    result.findings += place.findings
    result.files = {str(file): file_sha256(file) for _, file in place.files}
    if place.files:
        splits = _examine_files(result, place, known, memory, progress)
        result.words = said_words(splits, vocabulary)
    result.findings.sort(key=lambda finding: not finding.harms)
    return result


def _examine_files(
    result: Examination, place: Place, known: Published, memory: Path, progress: bool
) -> Splits:
    """Examine the files that were found, and return the records of each split."""
    layout, file = LAYOUTS[result.dataset], place.files[0][1]
    folder = file.parent
    if not layout.is_table and not (folder / "imgs").is_dir() and (folder.parent / "imgs").is_dir():
        folder = folder.parent
    entries, persons, has_splits = (
        _read_tables(result, place, custom.image_root_of(folder))
        if layout.is_table
        else _read(result, layout, place, folder / "imgs")
    )
    image_root, findings = find_images(layout, folder, _image_names(layout, entries))
    image_root = result.image_root = Path(os.path.realpath(image_root))  # as that of the records
    result.findings += findings
    if not entries:
        return {}
    splits, refused, findings = parse_entries(
        layout, file, entries, image_root, has_splits=has_splits
    )
    result.findings += findings
    splits = splits if has_splits else {"all splits": splits["train"]}
    result.counts = {split: count(records) for split, records in splits.items() if records}
    result.findings += identity_findings(layout, splits)
    unusable, findings = image_findings(splits, image_root, memory, progress=progress)
    result.findings += findings
    if has_splits:
        folder = "imgs/" if image_root.name == "imgs" else ""
        result.corrected = correct(
            layout, splits, image_root, refused, unusable, persons=persons, folder=folder
        )
    result.findings += count_findings(splits, known, has_splits=has_splits)
    result.findings += caption_findings(splits, "line" if layout.is_table else "entry")
    result.cuts = cut_shares(splits)
    return splits


def _read_tables(
    result: Examination, place: Place, image_root: Path
) -> tuple[list[tuple[int, Any]], dict[int, str], bool]:
    """Return numbered entries, names of persons, and whether any entry names its split."""
    rows: list[tuple[int, Any]] = []
    for split, file in place.files:
        try:
            read = read_table_rows(file)
        except ValueError as error:
            advice = "mend the file: nothing else of it can be examined"
            result.findings.append(Finding(str(error), advice))
            continue
        for _, row in read:
            if split is not None and isinstance(row, dict):
                row["split"] = split
        rows += read
    has_splits = custom.names_splits(rows)
    return *custom.as_entries(rows, image_root), has_splits


def _read(
    result: Examination, layout: Layout, place: Place, image_root: Path
) -> tuple[list[tuple[int, Any]], dict[int, str], bool]:
    """Return numbered entries, no names, and whether any entry names its split.

    The entries are those of all files, in the layout's form; findings say what was not.
    """
    entries, others = list[Any](), dict[str, list[str]]()
    for split, file in place.files:
        rows = read_rows(file)
        if not rows:
            result.findings.append(_unreadable(file))
            continue
        if fields := other_fields(layout, rows):
            others.setdefault(", ".join(fields), []).append(file.name)
        entries += as_entries(layout, rows, split)
    for fields, names in others.items():
        needed = f"{layout.name} needs split, id, {layout.path_field}, captions"
        has = "has" if len(names) == 1 else "have"
        title = f"{', '.join(names)} {has} other names of fields: {fields}"
        result.findings.append(Finding(title, f"{needed} (--fix FILE writes them)"))
    entries, findings = mend(layout, entries, image_root)
    result.findings += findings
    return list(enumerate(entries)), {}, names_splits(entries)


def _image_names(layout: Layout, entries: list[tuple[int, Any]]) -> list[str]:
    """Return the images' paths that do not leave their folder."""
    names = (entry.get(layout.path_field) for _, entry in entries if isinstance(entry, dict))
    paths = (Path(name) for name in names if isinstance(name, str) and name)
    return [str(path) for path in paths if not path.is_absolute() and ".." not in path.parts]


def _unreadable(file: Path) -> Finding:
    reason = f"{file}: expected a list with one object an image"
    advice = "mend the file as the message says: nothing else of it can be examined"
    try:
        load_entries(file)
    except IncompleteFileError as error:
        reason = str(error)
        advice = "get the file anew: a download that broke off looks like this"
    except (OSError, ValueError) as error:
        reason = str(error)
    return Finding(reason, advice)
