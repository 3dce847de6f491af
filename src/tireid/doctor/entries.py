"""The entries of an annotation file, by the rules of training: which it refuses, and why."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tireid.data.annotations import EntryParser, Layout
from tireid.data.custom import merged, with_repeated_captions
from tireid.data.records import SPLITS, Record, Splits, find_repeats, shared_ids
from tireid.data.split_counts import Counts, count, differences
from tireid.doctor.findings import Finding, first, number
from tireid.doctor.layouts import Published


def parse_entries(
    layout: Layout,
    file: Path,
    entries: Sequence[tuple[int, Any]],
    image_root: Path,
    *,
    has_splits: bool,
) -> tuple[Splits, list[str], list[Finding]]:
    """Return the records of the entries that training takes, and why it refuses the others.

    Entries of a file that names no splits are taken for those of `train`.

    Args:
        layout: File and field names.
        file: The annotation file, for messages.
        entries: Its entries, each with its number or line.
        image_root: The folder of the images.
        has_splits: Whether any entry names its split.

    Returns:
        Records whose `image_id` is the number of their entry, a message for each entry that is
        refused, and the findings.
    """
    parse = EntryParser(layout, file, image_root)
    found: list[tuple[str, Record]] = []
    refused: defaultdict[str, list[str]] = defaultdict(list)
    findings: list[Finding] = []
    if not has_splits:
        findings.append(_no_splits(layout, file, [entry for _, entry in entries]))
        entries = [(n, e | {"split": "train"} if isinstance(e, dict) else e) for n, e in entries]
    for position, entry in entries:
        try:
            found.append(parse(position, entry))
        except ValueError as error:
            place = f"line {position}" if layout.is_table else f"entry {position}"
            reason = str(error).removeprefix(layout.place(file, position))
            message = f"{place}{reason}"
            refused[message.partition(": ")[2].partition(", got ")[0]].append(message)
    splits = merged(found) if layout.is_table else by_split(found)
    for reason, messages in refused.items():
        title = f"{len(messages):,} of {number(len(entries), *_words(layout))}: {reason}"
        advice = "training stops at the first of them; mend or remove them (--fix FILE removes)"
        findings.append(Finding(title, advice, examples=first(map(_shortened, messages))))
    return splits, [text for texts in refused.values() for text in texts], findings


def by_split(found: Iterable[tuple[str, Record]]) -> Splits:
    """Return the records of each split."""
    splits: Splits = {split: [] for split in SPLITS}
    for split, record in found:
        splits[split].append(record)
    return splits


def names_splits(entries: Sequence[Any]) -> bool:
    """Whether any entry names its split."""
    return any(isinstance(entry, dict) and "split" in entry for entry in entries)


def count_findings(splits: Splits, published: Published, *, has_splits: bool) -> list[Finding]:
    """Return how the counts differ from the published ones.

    Args:
        splits: The records of each split.
        published: What is published of the data set.
        has_splits: Whether the file names splits; without them only the sums are compared.
    """
    if published.counts is None:
        return []
    declared, others = published.counts, published.other_releases
    if not has_splits:
        declared = {"all splits": _total(declared)}
        others = {}
    release = _release(splits, others)
    if release is not None:
        title = f"the counts are those of {release}"
        return [Finding(title, "results do not compare with those on the other release; say which")]
    messages = differences(splits, declared, others)
    advice = "get the file from the owners anew; or, if these files are your own, use --own"
    title = "the counts are not those of the published data set"
    return [Finding(title, advice, examples=tuple(messages))] if messages else []


def identity_findings(layout: Layout, splits: Splits) -> list[Finding]:
    """Return identities in two splits, images named twice, and identities of one image."""
    findings = [
        Finding(
            f"{number(len(ids), 'identity', 'identities')} in both {one} and {other}",
            "training refuses the file: give each identity one split",
            examples=(", ".join(first(ids)),),
        )
        for (one, other), ids in shared_ids(splits).items()
    ]
    for text, harmless, _ in find_repeats(splits, layout.entries):
        advice = (
            "each entry counts as an image of its own; give one entry all captions"
            if harmless
            else "training refuses the file unless dataset.read.repeats=warn: remove the wrong ones"
        )
        findings.append(Finding(text, advice, harms=not harmless))
    again = with_repeated_captions(splits) if layout.is_table else []
    if again:
        title = f"{number(len(again), 'image')} with one caption twice, which counts twice"
        examples = first(f"line {record.image_id}" for record in again)
        findings.append(Finding(title, "remove rows that are there twice", False, examples))
    for split, records in splits.items():
        images = Counter(record.pid for record in records)
        single = [pid for pid, times in images.items() if times == 1]
        if single:
            title = f"{number(len(single), 'identity', 'identities')} of {split} with one image"
            advice = "kept; in training they have no second image, and no other support"
            examples = (", ".join(first(sorted(single))),)
            findings.append(Finding(title, advice, harms=False, examples=examples))
    return findings


def _no_splits(layout: Layout, file: Path, entries: Sequence[Any]) -> Finding:
    if layout.is_table:
        title = f"{file.name} has no column split: training makes splits by person, by a seed"
        return Finding(title, "write a column split to decide yourself", harms=False)
    has = sorted({name for entry in entries[:100] if isinstance(entry, dict) for name in entry})
    needed = ("split", "id", layout.path_field, "captions")
    lacks = ", ".join(name for name in needed if name not in has)
    return Finding(
        f"{file.name} lacks {lacks}; its {number(len(entries), 'entry', 'entries')} hold"
        f" {', '.join(has)}",
        f"nothing says what is for training: ask the owners for {layout.annotation_files[0]}",
    )


def _shortened(message: str) -> str:
    """Return where an entry is and what it holds, without the reason that the title has."""
    place, _, rest = message.partition(": ")
    _, got, value = rest.partition(", got ")
    return f"{place}: got {value}" if got else message


def _words(layout: Layout) -> tuple[str, str]:
    return ("line", "lines") if layout.is_table else ("entry", "entries")


def _total(counts: Counts) -> dict[str, int]:
    return {name: sum(split[name] for split in counts.values()) for name in count([])}


def _release(splits: Splits, others: dict[str, Counts]) -> str | None:
    read = {split: count(records) for split, records in splits.items() if records}
    fitting = (
        name
        for name, counts in others.items()
        if read == {split: dict(numbers) for split, numbers in counts.items()}
    )
    return next(fitting, None)
