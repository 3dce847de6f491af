"""Compare split sizes with the published counts."""

from collections.abc import Mapping, Sequence
from typing import Any

from tireid.data.records import Record, Splits

Counts = Mapping[str, Mapping[str, int]]


def count(records: Sequence[Record]) -> dict[str, int]:
    """Return the counts of `ids`, `images` and `captions`."""
    return {
        "ids": len({record.pid for record in records}),
        "images": len(records),
        "captions": sum(len(record.captions) for record in records),
    }


def check_counts(declared: Any, name: str) -> None:
    """Check that counts are declared as numbers of what is counted.

    Args:
        declared: Counts of each split; None: none are declared.
        name: Name of the setting, for messages.

    Raises:
        ValueError: If one is something else; names the setting.
    """
    splits = {} if declared is None else declared
    for split, counts in splits.items() if isinstance(splits, Mapping) else [("", splits)]:
        if not isinstance(counts, Mapping) or not all(
            key in count([]) and type(number) is int and number >= 0
            for key, number in counts.items()
        ):
            place = f"{name}.{split}" if split else name
            raise ValueError(
                f"{place}: expected whole numbers of {', '.join(count([]))}, got {counts!r:.200}"
            )


def differences(
    splits: Splits, declared: Counts | None, other_releases: Mapping[str, Counts]
) -> list[str]:
    """Return a message for each split whose counts differ from the declared ones.

    Args:
        splits: The records of each split.
        declared: Counts of each split of the files; None: none are declared. Without `val`, a split
            held out of `train` counts as `train`.
        other_releases: Counts of other releases of the data set, by name.
    """
    if declared is None:
        return []
    read = {split: count(records) for split, records in splits.items()}
    if "val" not in declared and "val" in read:
        held = read.pop("val")
        read["train"] = {key: read["train"][key] + held[key] for key in held}
    messages: list[str] = []
    for split, expected in declared.items():
        got = read.get(split, count([]))
        wrong = [
            f"{expected[key]:,} {key}, got {got[key]:,} ({got[key] - expected[key]:+,})"
            for key in expected
            if got[key] != expected[key]
        ]
        fits = [
            f"; they are those of {release}, whose results do not compare with this one's"
            for release, counts in other_releases.items()
            if dict(counts.get(split, {})) == got
        ]
        if wrong:
            messages.append(
                f"{split}: expected {'; '.join(wrong)}{''.join(fits)}."
                " What was read is used; published results are for the declared numbers."
            )
    return messages
