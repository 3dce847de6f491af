"""Differences between each row and its control, query by query, with confidence intervals."""

import textwrap
from collections.abc import Sequence

import numpy as np

from tireid.comparison.report.blocks import Block, Figure, Figures, Note, Section, Table
from tireid.comparison.report.loading import Comparison, Row, same_queries
from tireid.comparison.report.style import WIDTH, drawing, figure
from tireid.comparison.significance import Difference, paired_difference
from tireid.comparison.table import NONE
from tireid.metrics.names import headlines

_NAME_WIDTH = 52  # characters in a line of a figure


def differences(comparison: Comparison, resamples: int = 2000) -> Section:
    """Return the paired differences as tables and forest plots."""
    blocks: list[Block] = [
        Note(
            "Row minus control, in percentage points on the same test queries, with 95 % "
            "bootstrap intervals: identities are resampled with all their captions, and so are "
            "the seeds of each row. With few seeds an interval says little about other seeds, and "
            "of many intervals some exclude zero by chance."
        )
    ]
    compared: dict[str, list[Row]] = {}  # by the name of their control
    controls = {row.name: comparison.control_of(row) for row in comparison.rows}
    for row in comparison.rows:
        if controls[row.name] is not row:
            compared.setdefault(controls[row.name].name, []).append(row)
    for rows in compared.values():
        blocks += _against(controls[rows[0].name], rows, resamples)
    if not compared:
        only = len(comparison.rows) == 1
        why = "There is only one row" if only else "No two rows were tested on the same files"
        blocks.append(Note(f"{why}: nothing to compare query by query."))
    return Section("differences", "Differences, query by query", blocks)


def _against(control: Row, rows: Sequence[Row], resamples: int) -> list[Block]:
    if not control.queries:
        return [Note(f"Against {control.name}: {_unrecorded(control)}.")]
    recorded = [run.values for row in (control, *rows) for run in row.queries]
    metrics = {name: m for name, m in headlines().items() if all(name in v for v in recorded)}
    by_row: list[tuple[Row, dict[str, Difference]]] = []
    lines = []
    for row in rows:
        if not row.queries or not same_queries(row, control):
            reason = "other queries" if row.queries else _unrecorded(row)
            lines.append(row.line([reason, *[NONE] * 4]))
            continue
        by_metric = {
            name: paired_difference(control.queries, row.queries, name, resamples=resamples)
            for name in metrics
        }
        by_row.append((row, by_metric))
        one = next(iter(by_metric.values()))
        cells = [*map(_interval, by_metric.values()), f"{one.queries:,}", f"{one.identities:,}"]
        lines.append(row.line([*cells, f"{one.seeds[1]} / {one.seeds[0]}"]))
    head = [f"run, minus {control.name}", *(f"{m} [95 %]" for m in metrics.values())]
    head += ["queries", "identities", "seeds, row / control"]
    blocks: list[Block] = [
        Table(head, lines, f"Differences from {control.name}, percentage points")
    ]
    if by_row:
        figures = [
            _forest(
                f"{label} minus that of {control.name}", label, [(r, d[name]) for r, d in by_row]
            )
            for name, label in metrics.items()
        ]
        blocks.append(Figures(figures))
    return blocks


def _unrecorded(row: Row) -> str:
    some = any(run.queries is not None for run in row.runs)
    return f"not recorded by {'all of ' if some else ''}these runs; make evaluate RUN=... adds it"


def _interval(one: Difference) -> str:
    clear = "" if one.clear else " (includes 0)"
    return f"{signed(one.mean)} [{signed(one.low)}, {signed(one.high)}]{clear}"


def signed(value: float) -> str:
    """Return a number of points with its sign."""
    return f"{value:+.1f}".replace("-", "\N{MINUS SIGN}")


def _forest(title: str, label: str, rows: Sequence[tuple[Row, Difference]]) -> Figure:
    names = [textwrap.fill(row.name, _NAME_WIDTH) for row, _ in rows]
    # Names stand above the intervals, which so have the whole width.
    heights = np.cumsum([0.62 + 0.5 * (name.count("\n") + 1) for name in names])
    with drawing(WIDTH, 0.9 + 0.36 * (heights[-1] + 0.5)) as drawn:
        axes = drawn.add_subplot()
        axes.axvline(0, color="black", linewidth=1)
        for height, name, (row, one) in zip(heights, names, rows, strict=True):
            line = {"color": row.style.colour}
            axes.plot([one.low, one.high], [height] * 2, linewidth=2, **line)
            line |= {"marker": row.style.marker, "markersize": 7}
            line |= {} if one.clear else {"markerfacecolor": "white"}
            axes.plot(one.mean, height, **line)
            axes.annotate(
                name,
                (0, height),
                xycoords=("axes fraction", "data"),
                xytext=(2, 5),
                textcoords="offset points",
                fontsize=9.5,
                va="bottom",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            )
        axes.set(yticks=[], ylim=(heights[-1] + 0.5, -0.1), xlabel=f"{label}, percentage points")
        axes.margins(x=0.08)
        axes.spines["left"].set_visible(False)
        alt = "; ".join(f"{row.name}: {_interval(one)}" for row, one in rows)
        return figure(drawn, f"{title}. {alt}", f"{title}; hollow: the interval includes zero")
