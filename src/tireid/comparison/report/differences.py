"""Differences between each row and its control, query by query, with confidence intervals."""

import textwrap
from collections.abc import Sequence

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
    controls = list(
        {
            comparison.control_of(row).name: comparison.control_of(row) for row in comparison.rows
        }.values()
    )
    drawn = False
    for control in controls:
        rows = [
            r for r in comparison.rows if comparison.control_of(r) is control and r is not control
        ]
        if rows:
            blocks += _against(control, rows, resamples)
            drawn = True
    if not drawn:
        why = (
            "There is only one row"
            if len(comparison.rows) == 1
            else "No two rows were tested on the same files"
        )
        blocks.append(Note(f"{why}: nothing to compare query by query."))
    return Section("differences", "Differences, query by query", blocks)


def _against(control: Row, rows: Sequence[Row], resamples: int) -> list[Block]:
    if not control.queries:
        return [Note(f"Against {control.name}: {_unrecorded(control)}.")]
    recorded = [run.values for row in (control, *rows) for run in row.queries]
    metrics = {name: m for name, m in headlines().items() if all(name in v for v in recorded)}
    by_row: dict[str, dict[str, Difference]] = {}
    lines = []
    for row in rows:
        if not row.queries or not same_queries(row, control):
            reason = "other queries" if row.queries else _unrecorded(row)
            lines.append(row.line([reason, *[NONE] * 4]))
            continue
        by_metric = {
            metric: paired_difference(
                control.queries, row.queries, metric, resamples=resamples, seed=0
            )
            for metric in metrics
        }
        by_row[row.name], one = by_metric, next(iter(by_metric.values()))
        cells = [*map(_interval, by_metric.values()), f"{one.queries:,}", f"{one.identities:,}"]
        lines.append(row.line([*cells, f"{one.seeds[1]} / {one.seeds[0]}"]))
    head = [f"run, minus {control.name}", *(f"{m} [95 %]" for m in metrics.values())]
    head += ["queries", "identities", "seeds, row / control"]
    blocks: list[Block] = [
        Table(head, lines, f"Differences from {control.name}, percentage points")
    ]
    shown = [row for row in rows if row.name in by_row]
    if shown:
        blocks.append(Figures([_forest(control, shown, by_row, metric) for metric in metrics]))
    return blocks


def _unrecorded(row: Row) -> str:
    some = any(run.queries is not None for run in row.runs)
    return f"not recorded by {'all of ' if some else ''}these runs; make evaluate RUN=... adds it"


def _interval(one: Difference) -> str:
    clear = "" if one.clear else " (includes 0)"
    return f"{_signed(one.mean)} [{_signed(one.low)}, {_signed(one.high)}]{clear}"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "\N{MINUS SIGN}")


def _forest(
    control: Row, rows: Sequence[Row], by_row: dict[str, dict[str, Difference]], metric: str
) -> Figure:
    names = [textwrap.fill(row.name, _NAME_WIDTH) for row in rows]
    heights: list[float] = []
    top = 0.0
    for name in names:  # above the intervals, which so have the whole width
        top += 0.62 + 0.5 * (name.count("\n") + 1)
        heights.append(top)
    label = headlines()[metric]
    with drawing(WIDTH, 0.9 + 0.36 * (top + 0.5)) as drawn:
        axes = drawn.add_subplot()
        axes.axvline(0, color="black", linewidth=1)
        for height, name, row in zip(heights, names, rows, strict=True):
            one = by_row[row.name][metric]
            axes.plot([one.low, one.high], [height] * 2, color=row.style.colour, linewidth=2)
            face = row.style.colour if one.clear else "white"
            axes.plot(
                one.mean,
                height,
                color=row.style.colour,
                marker=row.style.marker,
                markerfacecolor=face,
                markersize=7,
            )
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
        axes.set(yticks=[], ylim=(top + 0.5, -0.1), xlabel=f"{label}, percentage points")
        axes.margins(x=0.08)
        axes.spines["left"].set_visible(False)
        alt = "; ".join(f"{r.name}: {_interval(by_row[r.name][metric])}" for r in rows)
        title = f"{label} minus that of {control.name}; hollow: the interval includes zero"
        return figure(drawn, f"{label} against {control.name}. {alt}", title)
