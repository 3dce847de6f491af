"""Results: methods by encoders, a table a data set, and what others have printed."""

from collections.abc import Iterator, Sequence

from tireid.comparison.published import Published, published_metrics, read_published
from tireid.comparison.report.blocks import Block, Fold, Line, Note, Section, Table
from tireid.comparison.report.material import Material, Row
from tireid.comparison.report.words import NONE, row_line, spread
from tireid.comparison.write import differing_data
from tireid.metrics.names import compared, headlines

_TEACHERS = {
    "oracle": "ORACLE: teacher, supports from the test identities",
    "empty": "teacher, empty supports",
}


def results(material: Material) -> Section:
    """Return the tables of metrics."""
    blocks: list[Block] = [
        Note(
            "Percent, text to image; mean ± sample standard deviation over seeds. val: the split "
            "that chose the tested checkpoint, unless said otherwise; all else is the test split."
        )
    ]
    if differing_data([row.first for row in material.rows]):
        blocks.append(
            Note(
                "The rows of a data set were not all tested on the same files: their figures do "
                "not compare. The column 'test files' tells which do.",
                warning=True,
            )
        )
    for dataset in material.datasets:
        blocks += _dataset(material, dataset)
    return Section("results", "Results", blocks)


def _dataset(material: Material, dataset: str) -> Iterator[Block]:
    rows = material.rows_on(dataset)
    printed = read_published(dataset)
    labels = {name: f"val {label}" for name, label in headlines("val/").items()}
    labels |= compared("test/")
    metrics = [name for name in labels if any(row.values(name) for row in rows)]
    encoders = bool(printed) or any(row.encoders != (NONE, NONE) for row in rows)
    files = len({row.first.test_data for row in rows}) > 1
    # The figures first: where a page is narrow, the rest is scrolled to.
    head = ["run", "seeds", *(labels[name] for name in metrics), "million weights", "steps"]
    numbers = len(head)
    head += ["chosen on", *(["image encoder", "text encoder"] if encoders else [])]
    head += [*(["test files"] if files else []), *(["source"] if printed else [])]
    lines = []
    for row in rows:
        first = row.first
        cells = [str(len(row.runs)), *(spread(row.values(name)) for name in metrics)]
        cells += [f"{first.parameters / 1e6:.1f}", f"{first.steps:,}", first.selection]
        cells += row.encoders if encoders else ()
        cells += [first.test_data[:8] or NONE] if files else []
        cells += ["these runs"] if printed else []
        lines.append(row_line(row, cells, control=material.is_control(row)))
    lines += [_printed(one, metrics, files=files) for one in printed]
    yield Table(head, lines, f"Metrics on {dataset}, percent", tail=len(head) - numbers)
    if printed:
        yield Note(
            "Rows named 'printed' are what others have printed, as they did; which split chose "
            "their checkpoints, sources do not always say."
        )
    else:
        yield Note(f"Nothing is published on {dataset}.")
        yield _folded()
    yield from _teachers(rows)


def _printed(one: Published, metrics: Sequence[str], *, files: bool) -> Line:
    values = {f"test/{name}": value for name, value in one.metrics.items()}
    cells = [f"{one.method} ({one.year}), printed", NONE]
    cells += [f"{values[name]:.2f}" if name in values else NONE for name in metrics]
    cells += [NONE, NONE, "not said", one.image_encoder, one.text_encoder]
    cells += [*([NONE] if files else []), one.source]
    return Line(cells, "published")


def _folded() -> Fold:
    """Return all printed figures, which compare with nothing above."""
    published = read_published()
    metrics = published_metrics(published)
    lines = [
        Line(
            [
                f"{one.method} ({one.year})",
                one.image_encoder,
                one.text_encoder,
                one.dataset,
                *(f"{one.metrics[n]:.2f}" if n in one.metrics else NONE for n in metrics),
                one.source,
            ],
            "published",
        )
        for one in published
    ]
    head = ["method", "image encoder", "text encoder", "data set", *metrics.values(), "source"]
    table = Table(head, lines, "Figures that others have printed, percent", 4, 1)
    note = Note("On other data: no figure above compares with one of these.", warning=True)
    return Fold("What others have printed on real data sets", [note, table])


def _teachers(rows: Sequence[Row]) -> Iterator[Block]:
    """Return what teachers reach, apart from what retrieval reaches."""
    metrics = compared("test/")
    lines = []
    for row in rows:
        for kind, said in _TEACHERS.items():
            found = [_taught(row, f"teacher_{kind}/{name}") for name in metrics]
            if any(found):
                mark = "oracle" if kind == "oracle" else ""
                lines.append(Line([row.name, said, *map(spread, found)], mark))
    if lines:
        yield Note(
            "Teachers. An oracle's supports are drawn from the people that are searched for: its "
            "figures tell what a teacher could teach, and are no retrieval result."
        )
        head = ["run", "teacher", *metrics.values()]
        yield Table(head, lines, "Teachers on the test split, percent: no results", 2)


def _taught(row: Row, name: str) -> list[float]:
    found = [(run.record.get("teacher") or {}).get(name) for run in row.runs]
    return [value for value in found if value is not None]
