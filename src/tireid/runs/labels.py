"""Labels of table rows: a run's own label and, if other runs share it, what differs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tireid.runs.settings import without_seeds

_IGNORED = ("seed", "sweep", "label", "skip_finished")
_IGNORED_PREFIXES = ("paths.", "callbacks.", "logger.")
_MOST_SETTINGS = 3


@dataclass(frozen=True, slots=True)
class NamedRun:
    """A run that needs a label.

    Attributes:
        label: The run's own label, or its method.
        dataset: Name of the data set.
        settings: Hash of the config without seeds.
        overrides: Overrides of the config; may be empty.
        values: The config by dotted name.
    """

    label: str
    dataset: str
    settings: str
    overrides: Sequence[str]
    values: Mapping[str, Any]


def distinct_labels(runs: Sequence[NamedRun]) -> list[str]:
    """Return a label for each run: its own, followed by what differs if other runs share it.

    Runs of one label and data set that differ in more than the seed are distinguished by the
    overrides in which they differ or, if those are not enough, by their configs.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for number, run in enumerate(runs):
        groups.setdefault((run.label, run.dataset), []).append(number)
    labels = [run.label for run in runs]
    for numbers in groups.values():
        members = [runs[number] for number in numbers]
        kinds = {member.settings for member in members}
        if len(kinds) == 1:
            continue
        added = _differences([_by_key(member.overrides) for member in members])
        pairs = {(text, member.settings) for text, member in zip(added, members, strict=True)}
        if not len(pairs) == len(set(added)) == len(kinds):
            values = [without_seeds(member.values) for member in members]
            added = _differences([{k: str(v) for k, v in one.items()} for one in values])
        for number, text in zip(numbers, added, strict=True):
            labels[number] += f", {text}" if text else ""
    return labels


def _by_key(overrides: Sequence[str]) -> dict[str, str]:
    """Return overrides by key, without those that do not change what is learned."""
    values = {}
    for override in overrides:
        key, _, value = override.partition("=")
        name = key.lstrip("+~")
        if name.rsplit(".", 1)[-1] not in _IGNORED and not name.startswith(_IGNORED_PREFIXES):
            values[name] = value
    return values


def _differences(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Return, for each run, its values of the settings in which the runs differ."""
    names = list(dict.fromkeys(name for values in settings for name in values))
    differing = [n for n in names if len({values.get(n) for values in settings}) > 1]
    more = len(differing) - _MOST_SETTINGS
    return [
        ", ".join(f"{n}={values[n]}" for n in differing[:_MOST_SETTINGS] if n in values)
        + (f" and {more} more" if more > 0 else "")
        for values in settings
    ]
