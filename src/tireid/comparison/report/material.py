"""What a report is about: runs with all that their folders tell, and the rows they make up."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tireid.comparison.offline_wandb import logged_curves, told_by
from tireid.comparison.report.style import Style
from tireid.comparison.table import marked_label
from tireid.comparison.test_splits import TestSplit, read_test_splits
from tireid.retrieval.query_results import QUERIES_FILE, QueryResults, read_queries
from tireid.runs.log import read_columns
from tireid.runs.results import Result, Runs, Unfinished, rows_of
from tireid.tracking.offline import OfflineRun

Curves = Mapping[str, Sequence[tuple[int, float]]]
_BASELINE = "baseline.Baseline"


@dataclass(frozen=True, slots=True)
class Run:
    """A complete run.

    Attributes:
        result: Its line of a table.
        source: What was named to compare.
        folder: None where it was read from elsewhere.
        record: Its `metrics.json`; empty where there is none.
        settings: Its config; empty where there is none.
        curves: Pairs of step and value by the metric's name.
        queries: What it does with each test query; None where it left no record of that.
    """

    result: Result
    source: Path
    folder: Path | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    curves: Curves = field(default_factory=dict)
    queries: QueryResults | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """The seeds of one piece of work: a line of the tables, a colour of the figures.

    Attributes:
        name: Unique in the report.
        runs: At least one, of different seeds.
        style: In all figures.
    """

    name: str
    runs: Sequence[Run]
    style: Style

    @property
    def first(self) -> Result:
        """The result of the first run."""
        return self.runs[0].result

    @property
    def dataset(self) -> str:
        """The data set's name."""
        return self.first.dataset

    @property
    def encoders(self) -> tuple[str, str]:
        """Names of the image and the text encoder; a dash where they are not known."""
        settings = self.runs[0].settings
        return encoder_name(settings, "image_encoder"), encoder_name(settings, "text_encoder")

    @property
    def queries(self) -> list[QueryResults]:
        """What its runs do with each query; empty if one of them has left no record of that."""
        found = [run.queries for run in self.runs if run.queries is not None]
        return found if len(found) == len(self.runs) else []

    def values(self, metric: str) -> list[float]:
        """Return a metric of each run that has it, in percent."""
        found = [
            run.result.metrics.get(metric, run.record.get("metrics", {}).get(metric))
            for run in self.runs
        ]
        return [value for value in found if value is not None]


@dataclass(frozen=True, slots=True)
class Material:
    """All that a report tells.

    Attributes:
        sources: What was compared, as it was named.
        rows: In the order of the table.
        unfinished: Runs without a result.
        control: Label of the row that others are compared with; None: see `control_of`.
        splits: Test splits by their SHA-256; those that are there.
        missing: Why a split is not there, by its SHA-256.
        pictures: Whether pictures of real data sets may be shown.
        notes: What could not be read.
    """

    sources: Sequence[str]
    rows: Sequence[Row]
    unfinished: Sequence[Unfinished] = ()
    control: str | None = None
    splits: Mapping[str, TestSplit] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    pictures: bool = False
    notes: Sequence[str] = ()

    @property
    def datasets(self) -> list[str]:
        """Names of the data sets, in the order of the rows."""
        return list(dict.fromkeys(row.dataset for row in self.rows))

    def rows_on(self, dataset: str) -> list[Row]:
        """Return the rows on a data set."""
        return [row for row in self.rows if row.dataset == dataset]

    def control_of(self, row: Row) -> Row:
        """Return the row that a row is compared with.

        It is the one that was asked for or, without that, the first dual encoder without a
        method's head on the same data set, of the same encoders if there is one; else the first
        row of the data set. Rows whose checkpoint was chosen on test come last.
        """
        rows = [other for other in self.rows if _comparable(other, row)] or [row]
        rows.sort(key=lambda one: one.first.selection == "test")
        if self.control is not None:
            return next((one for one in rows if _is_called(one, self.control)), rows[0])
        plain = [one for one in rows if _is_baseline(one)]
        alike = [one for one in plain if one.encoders == row.encoders]
        return (alike or plain or rows)[0]

    def is_control(self, row: Row) -> bool:
        """Whether another row is compared with this one."""
        return any(self.control_of(other) is row for other in self.rows if other is not row)


def read_material(
    read: Mapping[Path, Runs], *, control: str | None = None, pictures: bool = False
) -> Material:
    """Read what the folders of runs tell beyond their results.

    Args:
        read: The runs of each source, with their origins.
        control: Label of the row to compare with.
        pictures: Whether pictures of real data sets may be shown.

    Raises:
        ValueError: If there is no run, or none has the label of the control.
    """
    notes: list[str] = []
    known: list[Run] = []
    for source, runs in read.items():
        origins = runs.origins or [None] * len(runs.complete)
        known += [
            _read_run(result, source, origin, notes)
            for result, origin in zip(runs.complete, origins, strict=True)
        ]
    if not known:
        raise ValueError("expected a complete run, got none")
    rows = _rows(known)
    if control is not None and not any(_is_called(row, control) for row in rows):
        names = "; ".join(dict.fromkeys(row.first.label for row in rows))
        raise ValueError(f"control: expected one of {names}; got {control!r}")
    tested = {run.folder: run.result.test_data for run in known if run.folder and run.queries}
    splits, missing = read_test_splits(tested, pictures=pictures)
    return Material(
        sources=[str(source) for source in read],
        rows=rows,
        unfinished=[run for runs in read.values() for run in runs.unfinished],
        control=control,
        splits=splits,
        missing=missing,
        pictures=pictures,
        notes=notes,
    )


def _read_run(
    result: Result, source: Path, origin: Path | OfflineRun | None, notes: list[str]
) -> Run:
    if origin is None:
        return Run(result, source)
    if isinstance(origin, OfflineRun):
        settings, record = told_by(origin)
        return Run(result, source, None, record, settings, logged_curves(origin))
    folder = origin
    run = Run(
        result,
        source,
        folder,
        json.loads((folder / "metrics.json").read_text(encoding="utf-8")),
        yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")),
    )
    try:
        if (folder / "metrics.csv").is_file():
            run = replace(run, curves=read_columns(folder / "metrics.csv"))
        run = replace(run, queries=_read_queries(folder, run.record))
    except (ValueError, KeyError, TypeError, OSError, csv.Error) as error:
        notes.append(f"{folder}: {error}")
    return run


def _read_queries(folder: Path, record: Mapping[str, Any]) -> QueryResults | None:
    """Return what a run left of its test or, without that, a later evaluation of the same."""
    if (folder / QUERIES_FILE).is_file():
        return read_queries(folder / QUERIES_FILE)
    stem = Path(str(record.get("tested_checkpoint"))).stem
    evaluation = folder / f"evaluation_test_{stem}.json"
    queries = folder / f"queries_test_{stem}.npz"
    if not (evaluation.is_file() and queries.is_file()):
        return None
    data = json.loads(evaluation.read_text(encoding="utf-8")).get("data_sha256")
    same = data == record.get("data_sha256", {}).get("test")
    return read_queries(queries) if same else None


def _rows(runs: Sequence[Run]) -> list[Row]:
    of = {id(run.result): run for run in runs}
    groups = [[of[id(result)] for result in row] for row in rows_of([run.result for run in runs])]
    names = _names([group[0] for group in groups])
    return [
        Row(name, sorted(group, key=lambda run: run.result.seed), Style.of(number))
        for number, (name, group) in enumerate(zip(names, groups, strict=True))
    ]


def _names(firsts: Sequence[Run]) -> list[str]:
    """Return a name for each row; labels that several rows share get what tells them apart."""
    several = len({first.result.dataset for first in firsts}) > 1
    names = [
        marked_label(one.result) + (f" [{one.result.dataset}]" if several else "") for one in firsts
    ]
    for told in (
        lambda one: f"{one.result.steps} steps",
        lambda one: one.source.name,
        lambda one: f"settings {one.result.settings}",
    ):
        values = [told(first) for first in firsts]
        shared = [name for name in names if names.count(name) > 1]
        telling = {
            name
            for name in shared
            if len({v for n, v in zip(names, values, strict=True) if n == name}) > 1
        }
        names = [
            f"{name}, {value}" if name in telling else name
            for name, value in zip(names, values, strict=True)
        ]
    return [
        f"{name} ({number})" if names.count(name) > 1 else name
        for number, name in enumerate(names, 1)
    ]


def encoder_name(settings: Mapping[str, Any], section: str) -> str:
    """Return the classes of an encoder, outermost first, and what its weights began from."""
    part = settings.get(section)
    if not isinstance(part, dict) or not isinstance(part.get("module"), dict):
        return "-"
    name = "+".join(_classes(part["module"])) or "-"
    pretrained = part.get("pretrained")
    return f"{name} ({Path(str(pretrained)).name})" if pretrained else name


def _classes(module: Mapping[str, Any]) -> list[str]:
    target = str(module.get("_target_", "")).rpartition(".")[2]
    found = [target.removesuffix("Encoder")] if target.endswith("Encoder") else []
    for value in module.values():
        found += _classes(value) if isinstance(value, dict) else []
    return found


def _comparable(one: Row, other: Row) -> bool:
    same_files = one.first.test_data == other.first.test_data
    return one.dataset == other.dataset and same_files


def _is_called(row: Row, label: str) -> bool:
    return label in (row.name, row.first.label)


def _is_baseline(row: Row) -> bool:
    model = row.runs[0].settings.get("model")
    if isinstance(model, dict):
        return str(model.get("_target_", "")).endswith(_BASELINE)
    return row.first.label.lower().startswith("baseline")


def same_queries(one: Row, other: Row) -> bool:
    """Whether two rows rank the same queries."""
    found = [*one.queries, *other.queries]
    return all(np.array_equal(queries.pids, found[0].pids) for queries in found)
