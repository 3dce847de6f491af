"""Load the content of a report: runs with all that their folders record, grouped into rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tireid.comparison.report.blocks import Line
from tireid.comparison.report.style import Style, swatch
from tireid.comparison.table import NONE, marked_label
from tireid.comparison.test_splits import TestSplit, read_test_splits
from tireid.retrieval.query_results import QUERIES_FILE, QueryResults, read_queries
from tireid.runs.log import LOG_FILE, read_columns
from tireid.runs.record import EVALUATION, read_record
from tireid.runs.results import Result, Runs, Unfinished, rows_of
from tireid.runs.settings import read_config

Curves = Mapping[str, Sequence[tuple[int, float]]]
_BASELINE = "baseline.Baseline"


@dataclass(frozen=True, slots=True)
class Run:
    """A complete run.

    Attributes:
        result: Its result.
        source: The source that it was read from.
        folder: The run folder; None if it was read from a CSV file.
        record: Its `metrics.json`; empty without a folder.
        settings: Its config; empty without a folder.
        curves: Pairs of step and value, by the name of the metric.
        queries: Its results for each test query; None if they were not recorded.
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
    """The seeds of one configuration: a line of the tables and a style of the figures.

    Attributes:
        name: Name that is unique in the report.
        runs: At least one run, with different seeds.
        style: Style in all figures.
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
        """Names of the image and the text encoder; a dash if unknown."""
        settings = self.runs[0].settings
        return encoder_name(settings, "image_encoder"), encoder_name(settings, "text_encoder")

    @property
    def queries(self) -> list[QueryResults]:
        """Results for each test query of all its runs; empty if one of them has no record."""
        queries = [run.queries for run in self.runs if run.queries is not None]
        return queries if len(queries) == len(self.runs) else []

    def values(self, metric: str) -> list[float]:
        """Return a metric of each run that has it, in percent."""
        values = [
            run.result.metrics.get(metric, run.record.get("metrics", {}).get(metric))
            for run in self.runs
        ]
        return [value for value in values if value is not None]

    def line(self, cells: Sequence[str], *, control: bool = False) -> Line:
        """Return a table line that begins with the row's name and its style in the figures."""
        mark = "warning" if self.first.selection == "test" else "control" if control else ""
        name = self.name + (" (control)" if control else "")
        return Line([name, *cells], mark, swatch(self.style))


@dataclass(frozen=True, slots=True)
class Comparison:
    """The content of a report.

    Attributes:
        sources: The sources that were compared.
        rows: Rows in the order of the table.
        unfinished: Runs without a result.
        control: Label of the row that others are compared with; None: see `control_of`.
        splits: Test splits that could be read, by SHA-256.
        missing: Reasons why other test splits could not be read, by SHA-256.
        pictures: Whether images of real data sets may be shown.
        notes: Problems while reading.
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

        It is the chosen control or, without one, the first baseline on the same test files, with
        the same encoders if possible, else the first row on these files. Rows whose checkpoint was
        chosen on the test split come last.
        """
        rows = [other for other in self.rows if _comparable(other, row)] or [row]
        rows.sort(key=lambda one: one.first.selection == "test")
        if self.control is not None:
            return next((one for one in rows if _is_called(one, self.control)), rows[0])
        plain = [one for one in rows if _is_baseline(one)]
        alike = [one for one in plain if one.encoders == row.encoders]
        return (alike or plain or rows)[0]

    def is_control(self, row: Row) -> bool:
        """Return whether another row is compared with this one."""
        return any(self.control_of(other) is row for other in self.rows if other is not row)


def load_comparison(
    read: Mapping[Path, Runs], *, control: str | None = None, pictures: bool = False
) -> Comparison:
    """Load what run folders record beyond their results.

    Args:
        read: The runs of each source.
        control: Label of the row to compare with.
        pictures: Whether images of real data sets may be shown.

    Raises:
        ValueError: If there is no complete run, or none has the label of the control.
    """
    notes: list[str] = []
    runs: list[Run] = []
    for source, found in read.items():
        folders = found.folders or [None] * len(found.complete)
        runs += [
            _load_run(result, source, folder, notes)
            for result, folder in zip(found.complete, folders, strict=True)
        ]
    if not runs:
        raise ValueError("expected a complete run, got none")
    rows = _rows(runs)
    if control is not None and not any(_is_called(row, control) for row in rows):
        names = "; ".join(dict.fromkeys(row.first.label for row in rows))
        raise ValueError(f"control: expected one of {names}; got {control!r}")
    tested = {run.folder: run.result.test_data for run in runs if run.folder and run.queries}
    splits, missing = read_test_splits(tested, pictures=pictures)
    return Comparison(
        sources=[str(source) for source in read],
        rows=rows,
        unfinished=[run for found in read.values() for run in found.unfinished],
        control=control,
        splits=splits,
        missing=missing,
        pictures=pictures,
        notes=notes,
    )


def _load_run(result: Result, source: Path, folder: Path | None, notes: list[str]) -> Run:
    if folder is None:
        return Run(result, source)
    settings = read_config(folder)
    run = Run(result, source, folder, read_record(folder), settings)
    try:
        if (folder / LOG_FILE).is_file():
            run = replace(run, curves=read_columns(folder / LOG_FILE))
        run = replace(run, queries=_read_queries(folder, run.record))
    except (ValueError, OSError) as error:
        notes.append(f"{folder}: {error}")
    return run


def _read_queries(folder: Path, record: Mapping[str, Any]) -> QueryResults | None:
    """Return the query results of a run's test or, without them, of a later evaluation of it."""
    if (folder / QUERIES_FILE).is_file():
        return read_queries(folder / QUERIES_FILE)
    stem = Path(str(record.get("tested_checkpoint"))).stem
    evaluation = folder / f"evaluation_test_{stem}.json"
    queries = folder / f"queries_test_{stem}.npz"
    if not (evaluation.is_file() and queries.is_file()):
        return None
    data = read_record(folder, evaluation.name, EVALUATION).get("data_sha256")
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
    """Return a unique name for each row: its label, followed by what differs if others share it."""
    several = len({first.result.dataset for first in firsts}) > 1
    names = [
        marked_label(one.result) + (f" [{one.result.dataset}]" if several else "") for one in firsts
    ]
    for detail in (
        lambda one: f"{one.result.steps} steps",
        lambda one: one.source.name,
        lambda one: f"settings {one.result.settings}",
    ):
        values = [detail(first) for first in firsts]
        pairs = set(zip(names, values, strict=True))
        distinguished = {name for name in names if sum(other == name for other, _ in pairs) > 1}
        names = [
            f"{name}, {value}" if name in distinguished else name
            for name, value in zip(names, values, strict=True)
        ]
    return [
        f"{name} ({number})" if names.count(name) > 1 else name
        for number, name in enumerate(names, 1)
    ]


def encoder_name(settings: Mapping[str, Any], section: str) -> str:
    """Return the classes of an encoder, outermost first, and its pretrained weights."""
    part = settings.get(section)
    if not isinstance(part, dict) or not isinstance(part.get("module"), dict):
        return NONE
    name = "+".join(_classes(part["module"])) or NONE
    pretrained = part.get("pretrained")
    return f"{name} ({Path(str(pretrained)).name})" if pretrained else name


def _classes(module: Mapping[str, Any]) -> list[str]:
    target = str(module.get("_target_", "")).rpartition(".")[2]
    names = [target.removesuffix("Encoder")] if target.endswith("Encoder") else []
    for value in module.values():
        names += _classes(value) if isinstance(value, dict) else []
    return names


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
    """Return whether two rows rank the same queries."""
    runs = [*one.queries, *other.queries]
    return all(np.array_equal(run.pids, runs[0].pids) for run in runs)
