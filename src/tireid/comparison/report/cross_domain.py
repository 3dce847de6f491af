"""Training on one data set and testing on others: a matrix, with published results beside."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tireid.comparison.published import read_cross_domain, same_dataset
from tireid.comparison.report.blocks import Block, Line, Note, Section, Table
from tireid.comparison.report.loading import Comparison, Row, Run
from tireid.comparison.table import NONE, spread
from tireid.data.mixed import set_names
from tireid.data.sources import shared_source_warnings
from tireid.metrics.names import METRICS
from tireid.runs.record import EVALUATION, read_record

_SHOWN = ("R1", "mAP")  # a matrix each


@dataclass(frozen=True, slots=True)
class Tested:
    """The tests of a row's runs on one data set.

    Attributes:
        files: SHA-256 of the test splits.
        metrics: Values of each metric, one a run.
    """

    files: frozenset[str]
    metrics: Mapping[str, Sequence[float]]


def cross_domain(comparison: Comparison) -> Section | None:
    """Return a matrix of training and test sets for each metric; None if no run has such tests."""
    tests = [(row, _tests(row)) for row in comparison.rows]
    tested_on = list(dict.fromkeys(name for _, found in tests for name in found))
    if all(not found.keys() - {row.dataset} for row, found in tests):
        return None
    blocks: list[Block] = [
        Note(
            "In rows what was trained on, in columns the test split of each data set; percent, "
            "text to image. A dash: not evaluated (tireid evaluate run=... dataset=[A,B])."
        )
    ]
    pairs = ((name, other) for row, found in tests for name in _trained_on(row) for other in found)
    blocks += [Note(message, warning=True) for message in shared_source_warnings(pairs)]
    for name in tested_on:
        files = {sha256 for _, found in tests if name in found for sha256 in found[name].files}
        if len(files) > 1:
            text = f"Not all rows were tested on the same files of {name}: they do not compare."
            blocks.append(Note(text, warning=True))
    for metric in _SHOWN:
        lines = [_line(row, found, tested_on, metric) for row, found in tests]
        lines += _published(tested_on, metric)
        head = ["run", "trained on", *tested_on, "source"]
        title = f"{METRICS[metric].label} by training and test set, percent"
        blocks.append(Table(head, lines, title, left=2, right=1))
    return Section("cross-domain", "Other data sets", blocks)


def _tests(row: Row) -> dict[str, Tested]:
    """Return the tests of a row's runs by data set, its own first."""
    found: dict[str, list[tuple[str, Mapping[str, float]]]] = {}
    for run in row.runs:
        found.setdefault(row.dataset, []).append((run.result.test_data, run.result.metrics))
        for name, record in _evaluations(run):
            if not same_dataset(name, row.dataset):
                test = record["data_sha256"], record["metrics"]
                found.setdefault(name, []).append(test)
    return {
        name: Tested(
            frozenset(sha256 for sha256, _ in tests),
            {
                metric: [values[key] for _, values in tests if values.get(key) is not None]
                for metric in _SHOWN
                for key in (f"test/{metric}",)
            },
        )
        for name, tests in found.items()
    }


def _evaluations(run: Run) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the evaluations of a run's tested checkpoint on other data sets."""
    if run.folder is None:
        return
    stem = Path(str(run.record.get("tested_checkpoint"))).stem
    for file in sorted(run.folder.glob("evaluation_*.json")):
        if file.stem.endswith(f"_test_{stem}"):
            try:
                record = read_record(run.folder, file.name, EVALUATION)
            except (OSError, ValueError):  # damaged, or anybody's
                continue
            if {"dataset", "metrics", "data_sha256"} <= record.keys():
                yield record["dataset"], record


def _trained_on(row: Row) -> list[str]:
    dataset = row.runs[0].settings.get("dataset")
    return set_names(dataset) if isinstance(dataset, Mapping) else [row.dataset]


def _line(row: Row, found: Mapping[str, Tested], tested_on: Sequence[str], metric: str) -> Line:
    values = [found[name].metrics[metric] if name in found else [] for name in tested_on]
    return row.line(["+".join(_trained_on(row)), *map(spread, values), "these runs"])


def _published(tested_on: Sequence[str], metric: str) -> list[Line]:
    """Return a line for each method and training set that a source has on one of the test sets."""
    lines: dict[tuple[str, str, str], dict[str, str]] = {}
    for one in read_cross_domain():
        for name in tested_on:
            if same_dataset(name, one.test) and metric in one.metrics:
                key = f"{one.method} ({one.year}), published", one.train, one.source
                lines.setdefault(key, {})[name] = f"{one.metrics[metric]:.2f}"
    return [
        Line([name, train, *(cells.get(test, NONE) for test in tested_on), source], "published")
        for (name, train, source), cells in lines.items()
    ]
