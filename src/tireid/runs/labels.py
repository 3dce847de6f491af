"""Names for the rows of a table: a run's label and, where others share it, what differs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_NOT_TOLD = ("seed", "sweep", "label", "skip_finished")
_NOT_TOLD_PREFIXES = ("paths.", "callbacks.", "logger.")
_MOST_SETTINGS = 3


@dataclass(frozen=True, slots=True)
class NamedRun:
    """What a row's name is made of.

    Attributes:
        label: The run's own label, or its method.
        dataset: Name of the data set.
        settings: Hash of all settings but the seed.
        overrides: What was set for the run, as on a command line; may be empty.
        values: Its settings by dotted name.
    """

    label: str
    dataset: str
    settings: str
    overrides: Sequence[str]
    values: Mapping[str, Any]


def distinct_labels(runs: Sequence[NamedRun]) -> list[str]:
    """Return a label for each run: its own, and after it what sets it apart, if it is shared.

    Runs of one label and data set that differ in more than the seed are told apart by the overrides
    that differ between them or, where those do not tell, by their settings.
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
        added = _differences([_told(member.overrides) for member in members])
        if len(set(zip(added, [member.settings for member in members], strict=True))) != len(
            kinds
        ) or len(set(added)) != len(kinds):
            added = _differences([_without_seeds(member.values) for member in members])
        for number, text in zip(numbers, added, strict=True):
            labels[number] += f", {text}" if text else ""
    return labels


def _told(overrides: Sequence[str]) -> dict[str, str]:
    """Return the overrides by key, without what makes no difference to what is learned."""
    told = {}
    for override in overrides:
        key, _, value = override.partition("=")
        name = key.lstrip("+~")
        if name.rsplit(".", 1)[-1] not in _NOT_TOLD and not name.startswith(_NOT_TOLD_PREFIXES):
            told[name] = value
    return told


def _without_seeds(values: Mapping[str, Any]) -> dict[str, str]:
    return {k: str(v) for k, v in values.items() if k.rsplit(".", 1)[-1] != "seed"}


def _differences(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Return, for each run, its values of what is not the same for all."""
    names = list(dict.fromkeys(name for values in settings for name in values))
    differing = [n for n in names if len({values.get(n) for values in settings}) > 1]
    more = len(differing) - _MOST_SETTINGS
    return [
        ", ".join(f"{n}={values[n]}" for n in differing[:_MOST_SETTINGS] if n in values)
        + (f" and {more} more" if more > 0 else "")
        for values in settings
    ]
