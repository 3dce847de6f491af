"""Results of runs: read from run folders, kept as CSV."""

import csv
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from tireid.runs.failure import FAILURE_FILE, read_failure
from tireid.runs.folder import claimed
from tireid.runs.labels import NamedRun, distinct_labels
from tireid.runs.settings import CONFIG_FILE, flat_settings, read_overrides

JOBS_FILE = "jobs.json"

COLUMNS = {
    "val/R1": "val R@1",
    "test/R1": "R@1",
    "test/R5": "R@5",
    "test/R10": "R@10",
    "test/mAP": "mAP",
    "test/mINP": "mINP",
}


@dataclass(frozen=True, slots=True)
class Result:
    """One complete run.

    Attributes:
        label: Its row in a table.
        dataset: Name of the data set.
        seed: The run's seed.
        selection: What chose the tested checkpoint: val, last or test.
        steps: Optimiser steps.
        seconds: Spent in training steps.
        images_per_second: In training.
        parameters: All weights, frozen ones included.
        test_data: SHA-256 of the test split; figures compare where it is equal.
        settings: Hash of all settings but the seed.
        commit: Of the source tree; empty for an installed package.
        metrics: By name, in percent.
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


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A run that is not complete.

    Attributes:
        name: What was set for it, or its folder.
        state: Why it is not complete; `missing`: it has never begun.
        folder: None if it has none.
        reason: What it failed with; empty in the other states.
    """

    name: str
    state: Literal["failed", "running", "incomplete", "missing"]
    folder: Path | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs below a folder.

    Attributes:
        complete: Those with a result.
        unfinished: The others.
        origins: Of the complete runs, in their order: the run folder, or the run as Weights &
            Biases kept it. Empty for those of a table.
    """

    complete: list[Result]
    unfinished: list[Unfinished]
    origins: list[Any] = field(default_factory=list)

    def count(self, state: str) -> int:
        """Return the number of runs in a state of `Unfinished`."""
        return sum(run.state == state for run in self.unfinished)


def read_runs(folder: Path, *, must_exist: bool = True) -> Runs:
    """Return the runs below a folder; of a sweep's folder also the jobs that never began.

    Args:
        folder: Of a run, of runs, or of a sweep.
        must_exist: Whether it is an error if there is none at all.

    Raises:
        FileNotFoundError: If there is no run at all.
        ValueError: If a record cannot be read.
    """
    found: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = []
    origins: list[Any] = []
    unfinished: list[Unfinished] = []
    seen: list[list[str]] = []
    for run in _run_folders(folder):
        if _is_teacher(run):  # a part of its students' runs
            continue
        overrides = read_overrides(run)
        name = " ".join(overrides) or str(run)
        failure = read_failure(run)
        try:
            content = _finished_record(run)
            if content is not None and failure is None:
                settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
                _result(settings, content, "")  # or an error that names the folder
                found.append((settings, content, overrides))
                origins.append(run)
        except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
            raise ValueError(
                f"{run}: expected config.yaml and metrics.json as training leaves them, "
                f"got {type(error).__name__}: {error}"
            ) from error
        if failure is not None:
            reason = f"{failure['error']}: {failure['message']}"
            unfinished.append(Unfinished(name, "failed", run, reason))
        elif content is None:
            unfinished.append(_begun(name, run))
        seen.append(overrides)
    unfinished += _jobs_without_run(folder, seen)
    if must_exist and not found and not unfinished:
        raise FileNotFoundError(
            f"{folder}: expected run folders, with config.yaml and checkpoints/ in them"
        )
    return Runs(labelled_results(found), unfinished, origins)


def _run_folders(folder: Path) -> list[Path]:
    found = {
        config.parent
        for config in folder.rglob("config.yaml")
        if (config.parent / "checkpoints").is_dir()
    }
    found |= {file.parent for file in folder.rglob(FAILURE_FILE)}
    return sorted(found, key=_natural)


def _is_teacher(run: Path) -> bool:
    config = run / CONFIG_FILE
    # Not parsed: a config that cannot be read is named later, and this is asked of every run.
    return config.is_file() and "\ntask: teacher\n" in f"\n{config.read_text(encoding='utf-8')}"


def _natural(path: Path) -> list[tuple[int, str]]:
    """Order 2 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in path.parts]


def _finished_record(run: Path) -> dict[str, Any] | None:
    record = run / "metrics.json"
    content = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    return content if content.get("finished") else None


def _begun(name: str, run: Path) -> Unfinished:
    with claimed(run) as free:
        return Unfinished(name, "incomplete" if free else "running", run)


def _jobs_without_run(folder: Path, seen: list[list[str]]) -> list[Unfinished]:
    """Return the jobs of a sweep that have not begun, or have only just."""
    jobs = [job for job in _jobs(folder) if job not in seen]
    if not jobs:
        return []
    begun = [file.parents[1] for file in folder.rglob(".hydra/overrides.yaml")]
    place = {tuple(read_overrides(run)): run for run in begun}
    found = []
    for job in jobs:
        name, run = " ".join(job), place.get(tuple(job))
        found.append(Unfinished(name, "missing") if run is None else _begun(name, run))
    return found


def _jobs(folder: Path) -> list[list[str]]:
    """Return what was set for each job of a sweep, as its start left it."""
    file = folder / JOBS_FILE
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    except ValueError as error:
        raise ValueError(f"{file}: expected the jobs of a sweep, got {error}") from error


def labelled_results(
    found: Sequence[tuple[dict[str, Any], dict[str, Any], list[str]]],
) -> list[Result]:
    """Return the results of complete runs, with labels that tell them apart.

    Args:
        found: Settings, record and overrides of each run.

    Raises:
        KeyError: If settings or a record lack something.
    """
    named = []
    for settings, _, overrides in found:
        target: str = settings["model"]["_target_"]
        named.append(
            NamedRun(
                label=settings.get("label") or target.rsplit(".", 1)[-1],
                dataset=settings["dataset"]["name"],
                settings=_hash(settings),
                overrides=overrides,
                values=flat_settings(settings),
            )
        )
    labels = distinct_labels(named)
    return [
        _result(settings, record, label)
        for (settings, record, _), label in zip(found, labels, strict=True)
    ]


def _result(settings: dict[str, Any], record: dict[str, Any], label: str) -> Result:
    commit = record["commit"] or ""
    return Result(
        label=label,
        dataset=settings["dataset"]["name"],
        seed=record["seed"],
        selection=record["selection"],
        steps=record["steps"],
        seconds=record["seconds"]["training"],
        images_per_second=record["images_per_second"],
        parameters=record["parameters"]["total"],
        test_data=record["data_sha256"].get("test", ""),
        settings=_hash(settings),
        commit=f"{commit}{'-dirty' if record['dirty'] else ''}",
        metrics={
            name: value
            for name, value in record["metrics"].items()
            if name in COLUMNS and value is not None
        },
    )


def _hash(settings: dict[str, Any]) -> str:
    # A run that wandb kept has dots for the slashes of names such as `paper.test/R1`.
    flat = {name.replace("/", "."): value for name, value in flat_settings(settings).items()}
    kept = {name: value for name, value in flat.items() if name.rsplit(".", 1)[-1] != "seed"}
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_csv(results: Iterable[Result], path: Path) -> None:
    """Write one line a run."""
    names = [field.name for field in fields(Result) if field.name != "metrics"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*names, *COLUMNS], lineterminator="\n")
        writer.writeheader()
        for result in results:
            line = asdict(result)
            metrics: dict[str, float] = line.pop("metrics")
            writer.writerow(line | {name: f"{value:.4f}" for name, value in metrics.items()})


def read_csv(path: Path) -> list[Result]:
    """Read what `write_csv` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a column is missing or a value is not of its kind.
    """
    with path.open(newline="", encoding="utf-8") as file:
        try:
            return [
                Result(
                    label=line["label"],
                    dataset=line["dataset"],
                    seed=int(line["seed"]),
                    selection=line["selection"],
                    steps=int(line["steps"]),
                    seconds=float(line["seconds"]),
                    images_per_second=float(line["images_per_second"]),
                    parameters=int(line["parameters"]),
                    test_data=line["test_data"],
                    settings=line["settings"],
                    commit=line["commit"],
                    metrics={name: float(line[name]) for name in COLUMNS if line.get(name)},
                )
                for line in csv.DictReader(file)
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: expected a table that tireid.comparison.compare wrote, got {error!r}"
            ) from error


def rows_of(results: Sequence[Result]) -> list[list[Result]]:
    """Return the runs of each row of a table: the seeds of one piece of work.

    Runs of one label with other settings, steps, data or selection are different rows, and a run
    that is given twice counts once.
    """
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        key = (
            result.label,
            result.dataset,
            result.steps,
            result.selection,
            result.test_data,
            result.settings,
        )
        members = groups.setdefault(key, [])
        if result.seed not in [member.seed for member in members]:
            members.append(result)
    return list(groups.values())
