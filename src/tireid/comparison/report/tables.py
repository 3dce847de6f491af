"""The results of a report: a table for each data set, with published results beside."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from tireid.comparison.published import Published, published_table, read_published
from tireid.comparison.report.blocks import Block, Fold, Line, Note, Section, Table
from tireid.comparison.report.loading import Comparison, Row
from tireid.comparison.table import NONE, differing_data, spread
from tireid.metrics.names import METRICS, compared, headlines

_TEACHERS = {
    "oracle": "ORACLE: teacher, supports from the test identities",
    "empty": "teacher, empty supports",
}


def results(comparison: Comparison) -> Section:
    """Return the tables of metrics."""
    blocks: list[Block] = [
        Note(
            "Text-to-image retrieval, in percent; mean ± sample standard deviation over seeds. val "
            "is the split that chose the tested checkpoint, unless stated otherwise; all other "
            "metrics are those of the test split. The best of a column is bold."
        )
    ]
    if differing_data([row.first for row in comparison.rows]):
        blocks.append(
            Note(
                "Not all rows of a data set were tested on the same files: their results do not "
                "compare. The column 'test files' shows which do.",
                warning=True,
            )
        )
    for dataset in comparison.datasets:
        blocks += _dataset(comparison, dataset)
    return Section("results", "Results", blocks)


def _dataset(comparison: Comparison, dataset: str) -> Iterator[Block]:
    rows = comparison.rows_on(dataset)
    published = read_published(dataset)
    labels = {name: f"val {label}" for name, label in headlines("val/").items()}
    labels |= compared("test/")
    metrics = [name for name in labels if any(row.values(name) for row in rows)]
    encoders = bool(published) or any(row.encoders != (NONE, NONE) for row in rows)
    files = len({row.first.test_data for row in rows}) > 1
    lines: list[Line] = []
    cells: dict[str, str] = {}
    numbers = 0
    for row in rows:  # metrics first: on a narrow page the rest is reached by scrolling
        first = row.first
        cells = {"seeds": str(len(row.runs))}
        cells |= {labels[name]: spread(row.values(name)) for name in metrics}
        cells |= {"million weights": f"{first.parameters / 1e6:.1f}", "steps": f"{first.steps:,}"}
        numbers = len(cells)
        image_encoder, text_encoder = row.encoders
        cells["chosen on"] = first.selection
        cells |= {"image encoder": image_encoder, "text encoder": text_encoder} if encoders else {}
        cells |= {"test files": first.test_data[:8] or NONE} if files else {}
        cells |= {"source": "these runs"} if published else {}
        lines.append(row.line(list(cells.values()), control=comparison.is_control(row)))
    lines = _with_bars(rows, lines, metrics)
    lines += [_published(one, cells) for one in published]
    title, right = f"Metrics on {dataset}, percent", len(cells) - numbers
    yield Table(["run", *cells], lines, title, right=right)
    if published:
        yield Note(
            "Rows named 'published' repeat the results of the sources named, which do not always "
            "say which split chose the checkpoints."
        )
    else:
        yield Note(f"There are no published results on {dataset}.")
        yield _all_published()
    yield from _teachers(rows)


def _with_bars(rows: Sequence[Row], lines: Sequence[Line], metrics: Sequence[str]) -> list[Line]:
    """Return the lines of rows with a bar for each metric, the best of each marked.

    Percentages are the lengths of the bars. Rows chosen on the test split are never the best.
    """
    means = [
        {n: statistics.fmean(values) for n in metrics if (values := row.values(n))} for row in rows
    ]
    fair = [m for row, m in zip(rows, means, strict=True) if row.first.selection != "test"]
    best = {n: max((m[n] for m in fair if n in m), default=None) for n in metrics}
    marked = []
    for row, mean, line in zip(rows, means, lines, strict=True):
        columns = dict(enumerate(metrics, 2))  # after the name and the seeds
        bars = {c: mean[n] / 100 for c, n in columns.items() if n in mean}
        won = {c for c in bars if mean[columns[c]] == best[columns[c]] and len(fair) > 1}
        is_fair = row.first.selection != "test"
        marked.append(replace(line, bars=bars, best=won if is_fair else set()))
    return marked


def _published(one: Published, columns: Iterable[str]) -> Line:
    known = {METRICS[name].label: f"{value:.2f}" for name, value in one.metrics.items()}
    known |= {"chosen on": "not stated", "source": one.source}
    known |= {"image encoder": one.image_encoder, "text encoder": one.text_encoder}
    cells = [known.get(column, NONE) for column in columns]
    return Line([f"{one.method} ({one.year}), published", *cells], "published")


def _all_published() -> Fold:
    """Return all published results, which do not compare with the runs."""
    head, rows = published_table(read_published())
    lines = [Line(cells, "published") for cells in rows]
    table = Table(head, lines, "Published results, percent", 4, 1)
    note = Note("On other data sets: these results do not compare with the runs.", warning=True)
    return Fold("Published results on real data sets", [note, table])


def _teachers(rows: Sequence[Row]) -> Iterator[Block]:
    """Return the metrics of teachers, apart from retrieval results."""
    metrics = compared("test/")
    lines = []
    for row in rows:
        teachers = [run.record.get("teacher") or {} for run in row.runs]
        for kind, name in _TEACHERS.items():
            keys = [f"teacher_{kind}/{metric}" for metric in metrics]
            values = [[t[key] for t in teachers if t.get(key) is not None] for key in keys]
            if any(values):
                mark = "oracle" if kind == "oracle" else ""
                lines.append(Line([row.name, name, *map(spread, values)], mark))
    if lines:
        yield Note(
            "Teachers. The supports of an oracle come from the identities that are searched for: "
            "its metrics show what a teacher could teach, and are no retrieval result."
        )
        head = ["run", "teacher", *metrics.values()]
        yield Table(head, lines, "Teachers on the test split, percent: no retrieval results", 2)
