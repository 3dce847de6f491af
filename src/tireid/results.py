"""Results of runs: read from run folders, kept as CSV, shown as a table of means over seeds."""

import csv
import hashlib
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from tireid.run_folder import flat_settings

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


def read_runs(folder: Path) -> tuple[list[Result], list[Path]]:
    """Return the complete runs below a folder, and the folders of incomplete ones.

    Raises:
        FileNotFoundError: If there is no run at all.
        ValueError: If a record cannot be read.
    """
    complete: list[Result] = []
    incomplete: list[Path] = []
    for config in sorted(folder.rglob("config.yaml")):
        if not (config.parent / "checkpoints").is_dir():
            continue
        record = config.with_name("metrics.json")
        try:
            content = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
            if content.get("finished"):
                settings = yaml.safe_load(config.read_text(encoding="utf-8"))
                complete.append(_result(settings, content))
            else:
                incomplete.append(config.parent)
        except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
            raise ValueError(
                f"{config.parent}: expected config.yaml and metrics.json as training leaves them, "
                f"got {type(error).__name__}: {error}"
            ) from error
    if not complete and not incomplete:
        raise FileNotFoundError(
            f"{folder}: expected run folders, with config.yaml and checkpoints/ in them"
        )
    return complete, incomplete


def _result(settings: dict[str, Any], record: dict[str, Any]) -> Result:
    target: str = settings["model"]["_target_"]
    commit = record["commit"] or ""
    return Result(
        label=settings.get("label") or target.rsplit(".", 1)[-1],
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
    flat = flat_settings(settings)
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
                f"{path}: expected a table that tireid.compare wrote, got {error!r}"
            ) from error


def table(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of a table: mean ± standard deviation over seeds, by label.

    Runs of one label with other settings, steps, data or selection are different rows, and a run
    that is given twice counts once. The deviation is the sample's (n - 1); one run has none.
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
    several_sets = len({result.dataset for result in results}) > 1
    names = [name for name in COLUMNS if any(name in result.metrics for result in results)]
    head = ["run", *(["data set"] if several_sets else []), "seeds"]
    head += [*(COLUMNS[name] for name in names), "million weights", "steps"]
    rows = []
    for (label, dataset, steps, selection, *_), members in groups.items():
        mark = " (CHOSEN ON TEST)" if selection == "test" else ""
        row = [f"{label}{mark}", *([dataset] if several_sets else []), str(len(members))]
        row += [
            _spread([member.metrics[name] for member in members if name in member.metrics])
            for name in names
        ]
        row += [f"{members[0].parameters / 1e6:.1f}", str(steps)]
        rows.append(row)
    return head, rows


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    mean = statistics.fmean(values)
    return f"{mean:.1f} ± {statistics.stdev(values):.1f}" if len(values) > 1 else f"{mean:.1f}"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fill(text: str, name: str, content: str) -> str:
    """Return `text` with the lines between the markers of a name replaced.

    Raises:
        ValueError: If `text` has not exactly one pair of `<!-- name -->` and `<!-- /name -->`.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"expected one {begin} and after it one {end}")
    before, rest = text.split(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"
