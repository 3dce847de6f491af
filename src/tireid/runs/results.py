"""Results of runs: read from run folders, stored as CSV, grouped by seeds."""

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tireid.files import write_text
from tireid.runs.failure import FAILURE, FAILURE_FILE
from tireid.runs.folder import claim
from tireid.runs.foreign import check, read_json, read_text
from tireid.runs.record import RECORD, RECORD_FILE, read_record
from tireid.runs.settings import (
    CONFIG_FILE,
    UNLEARNED,
    fingerprint,
    flat_settings,
    method_name,
    read_config,
    read_overrides,
    without_seeds,
)

JOBS_FILE = "jobs.json"
_RECORD = RECORD | {"seed": int, "selection": str}
_NAMED = {  # what is taken of a config
    "label": str | int | float | None,
    "model": {"_target_": str},
    "dataset": {"name": str},
}
# Overrides that do not change what is learned.
_IGNORED = ("seed", "sweep", "label", "skip_finished")
_IGNORED_PREFIXES = ("paths.", "callbacks.", "logger.")
_MOST_SETTINGS = 3  # in a label

STATES = {
    "failed": "failed",
    "running": "in use by another process",
    "incomplete": "not complete",
    "missing": "not started",
    "unreadable": "cannot be read",
}


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a complete run.

    Attributes:
        label: Label of its table row.
        dataset: Name of the data set.
        seed: Random seed.
        selection: What selected the tested checkpoint: val, last or test.
        steps: Optimizer steps.
        seconds: Time spent in training steps.
        images_per_second: Training throughput.
        parameters: Number of weights, frozen ones included.
        test_data: SHA-256 of the test split; only equal ones compare.
        settings: Hash of the config without seeds.
        commit: Commit of the source tree; empty for an installed package.
        metrics: Metrics by name, in percent.
    """

    label: str
    dataset: str
    seed: int
    selection: str
    steps: int
    seconds: float
    images_per_second: float
    parameters: int
    test_data: str
    settings: str
    commit: str
    metrics: dict[str, float]


_COLUMNS = [field.name for field in fields(Result) if field.name != "metrics"]
_NUMBERS: dict[str, Any] = {
    **dict.fromkeys(("seed", "steps", "parameters"), int),
    **dict.fromkeys(("seconds", "images_per_second"), float),
}


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A run without a result.

    Attributes:
        name: Its overrides, or its folder.
        state: A key of `STATES`.
        folder: The run folder; None if it has not started.
        reason: The error of a failed or an unreadable run, else empty.
    """

    name: str
    state: Literal["failed", "running", "incomplete", "missing", "unreadable"]
    folder: Path | None = None
    reason: str = ""

    def __str__(self) -> str:
        """Return all of it in one line."""
        reason = f": {' '.join(self.reason.split())}" if self.reason else ""
        named = self.folder is None or str(self.folder) == self.name
        folder = "" if named else f" ({self.folder})"
        return f"{STATES[self.state]}: {self.name}{reason}{folder}"


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs below a folder, or in a CSV file.

    Attributes:
        complete: Results of the complete runs.
        unfinished: The other runs.
        folders: Folders of the complete runs, in their order; empty for a CSV file.
    """

    complete: list[Result]
    unfinished: list[Unfinished]
    folders: list[Path] = field(default_factory=list)

    def count(self, state: str) -> int:
        """Return the number of unfinished runs in a state."""
        return sum(run.state == state for run in self.unfinished)


class CompleteRun(NamedTuple):
    """A run with a result, as its folder describes it.

    Attributes:
        folder: The run folder.
        result: The result, under the run's own label or its method.
        settings: The config.
        overrides: Overrides of the config; may be empty.
    """

    folder: Path
    result: Result
    settings: Mapping[str, Any]
    overrides: Sequence[str]


def read_runs(folder: Path, *, must_exist: bool = True) -> Runs:
    """Read the runs below a folder; of a sweep also the jobs that have not started.

    Args:
        folder: The folder of a run, of many runs, or of a sweep.
        must_exist: Whether a folder without runs is an error.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If the list of a sweep's jobs cannot be read.
    """
    complete: list[CompleteRun] = []
    paths, unfinished = _run_folders(folder)
    for path in paths:
        run = _read_run(path)
        if isinstance(run, Unfinished):
            unfinished.append(run)
        else:
            complete.append(run)
    unfinished += _jobs_without_run(folder, [read_overrides(path) for path in paths])
    if must_exist and not complete and not unfinished:
        raise FileNotFoundError(
            f"{folder}: expected run folders, with config.yaml and checkpoints/ in them"
        )
    return Runs(distinctly_labelled(complete), unfinished, [run.folder for run in complete])


def _run_folders(folder: Path) -> tuple[list[Path], list[Unfinished]]:
    """Return the run folders, and the folders that cannot be looked into.

    A name is enough: a file that is a link in a circle, or is gone, keeps no run out of the table.
    """
    paths: list[Path] = []
    closed: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=closed.append):
        names, path = {*folders, *files}, Path(place)
        is_run = "checkpoints" in names and names & {CONFIG_FILE, RECORD_FILE}
        # A teacher is a part of its student's run.
        if (is_run or FAILURE_FILE in names) and (path == folder or not _is_teacher(path)):
            paths.append(path)
    unreadable = [_unreadable(Path(error.filename), error) for error in closed]
    return sorted(paths, key=_natural), unreadable


def _is_teacher(run: Path) -> bool:
    # Not parsed: a config that cannot be read is named later, and every run is checked here.
    try:
        return "task: teacher" in read_text(run / CONFIG_FILE).splitlines()
    except (ValueError, OSError):
        return False


def _unreadable(folder: Path, error: OSError | ValueError) -> Unfinished:
    return Unfinished(str(folder), "unreadable", folder, str(error))


def _natural(path: Path) -> list[tuple[int, str]]:
    """Order 2 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in path.parts]


def _read_run(folder: Path) -> CompleteRun | Unfinished:
    overrides = read_overrides(folder)
    name = " ".join(overrides) or str(folder)
    try:
        if failure := read_record(folder, FAILURE_FILE, FAILURE):
            reason = f"{failure.get('error')}: {failure.get('message')}"
            return Unfinished(name, "failed", folder, reason)
        record = read_record(folder, kinds=_RECORD)
        if not record.get("finished"):
            return _started(name, folder)
        settings = check(read_config(folder), _NAMED, folder / CONFIG_FILE)
        return CompleteRun(folder, _result(settings, record), settings, overrides)
    except KeyError as error:
        reason = f"expected {CONFIG_FILE} and {RECORD_FILE} as training leaves them, got none of"
        return _unreadable(folder, ValueError(f"{reason} {error}"))
    except (ValueError, OSError) as error:
        return _unreadable(folder, error)


def _started(name: str, folder: Path) -> Unfinished:
    with claim(folder) as free:
        return Unfinished(name, "incomplete" if free else "running", folder)


def _jobs_without_run(folder: Path, started: Sequence[list[str]]) -> list[Unfinished]:
    """Return the jobs of a sweep that have no run folder yet, or only Hydra's part of it."""
    jobs = [job for job in read_jobs(folder) if job not in started]
    if not jobs:
        return []
    paths = [file.parents[1] for file in folder.rglob(".hydra/overrides.yaml")]
    by_overrides = {tuple(read_overrides(path)): path for path in paths}
    unfinished = []
    for job in jobs:
        name, path = " ".join(job), by_overrides.get(tuple(job))
        unfinished.append(Unfinished(name, "missing") if path is None else _started(name, path))
    return unfinished


def read_jobs(folder: Path) -> list[list[str]]:
    """Return the overrides of each job of a sweep, recorded when it started."""
    file = folder / JOBS_FILE
    return read_json(file, "the jobs of a sweep", [[str]], inside=folder) if file.exists() else []


def distinctly_labelled(runs: Sequence[CompleteRun]) -> list[Result]:
    """Return the results of runs, with labels followed by what differs if other runs share them.

    Runs of one label and data set that differ in more than the seed are distinguished by the
    overrides in which they differ or, if those are not enough, by their configs.
    """
    groups: dict[tuple[str, str], list[CompleteRun]] = {}
    for run in runs:
        groups.setdefault((run.result.label, run.result.dataset), []).append(run)
    added: dict[int, str] = {}
    for members in groups.values():
        hashes = [run.result.settings for run in members]
        if len(set(hashes)) == 1:
            continue
        texts = _differences([_by_key(run.overrides) for run in members])
        pairs = set(zip(texts, hashes, strict=True))
        if not len(pairs) == len(set(texts)) == len(set(hashes)):
            flat = [without_seeds(flat_settings(run.settings)) for run in members]
            texts = _differences([{k: str(v) for k, v in one.items()} for one in flat])
        added |= {id(run): text for run, text in zip(members, texts, strict=True)}
    return [
        replace(run.result, label=f"{run.result.label}, {text}")
        if (text := added.get(id(run)))
        else run.result
        for run in runs
    ]


def _by_key(overrides: Sequence[str]) -> dict[str, str]:
    """Return overrides by key, without those that do not change what is learned."""
    values = {}
    for override in overrides:
        key, _, value = override.partition("=")
        name = key.lstrip("+~")
        told = name.rsplit(".", 1)[-1] in _IGNORED or name in UNLEARNED
        if not told and not name.startswith(_IGNORED_PREFIXES):
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


def _result(settings: dict[str, Any], record: dict[str, Any]) -> Result:
    commit = record["commit"] or ""
    return Result(
        label=str(settings.get("label") or "") or method_name(settings["model"]["_target_"]),
        dataset=settings["dataset"]["name"],
        seed=record["seed"],
        selection=record["selection"],
        steps=record["steps"],
        seconds=_number(record["seconds"]["training"]),
        images_per_second=_number(record["images_per_second"]),
        parameters=int(record["parameters"]["total"]),
        test_data=record["data_sha256"].get("test", ""),
        settings=fingerprint(settings, seeds=False)[:12],
        commit=f"{commit}{'-dirty' if record['dirty'] else ''}",
        metrics={name: value for name, value in record["metrics"].items() if value is not None},
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def write_csv(results: Iterable[Result], path: Path, metrics: Iterable[str]) -> None:
    """Write a line for each run, with a column for each of some metrics."""
    columns = [*_COLUMNS, *metrics]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for result in results:
        line = asdict(result)
        values: dict[str, float] = line.pop("metrics")
        shown = {name: f"{values[name]:.4f}" for name in columns if name in values}
        writer.writerow(line | shown)
    write_text(path, text.getvalue())


def read_csv(path: Path) -> list[Result]:
    """Read what `write_csv` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a column is missing or a value has the wrong type.
    """
    lines = io.StringIO(read_text(path), newline="")
    try:
        return [
            Result(
                **{name: _NUMBERS.get(name, str)(line[name]) for name in _COLUMNS},
                metrics={
                    name: float(value)
                    for name, value in line.items()
                    if value and str(name).startswith(("val/", "test/"))
                },
            )
            for line in csv.DictReader(lines)
        ]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(
            f"{path}: expected a table that tireid compare wrote, got {error!r}"
        ) from error


_row = attrgetter("label", "dataset", "steps", "selection", "test_data", "settings")


def rows_of(results: Sequence[Result]) -> list[list[Result]]:
    """Group results into table rows, each with the seeds of one configuration.

    Runs of one label with other settings, steps, data or selection are different rows, and a run
    that is given twice counts once.
    """
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        members = groups.setdefault(_row(result), [])
        if result.seed not in [member.seed for member in members]:
            members.append(result)
    return list(groups.values())
