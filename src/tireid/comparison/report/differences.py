"""How much better each row is than its control, query by query, with confidence intervals."""

import textwrap
from collections.abc import Sequence

from tireid.comparison.report.blocks import Block, Figures, Note, Section, Table
from tireid.comparison.report.material import Material, Row, same_queries
from tireid.comparison.report.style import WIDTH, drawing, figure
from tireid.comparison.report.words import NONE, row_line, signed
from tireid.comparison.significance import Difference, paired_difference
from tireid.metrics.names import headlines

_NAME_WIDTH = 52  # letters in a line of a figure


def differences(material: Material, resamples: int = 2000) -> Section:
    """Return the paired differences as tables and forest plots."""
    blocks: list[Block] = [
        Note(
            "Row minus control, in percent points on the same test queries, with 95 % bootstrap "
            "intervals: people are drawn again with all their captions, and seeds of each row. "
            "With few seeds an interval tells little of other seeds; and of many comparisons "
            "some leave out zero by chance."
        )
    ]
    controls = list(
        {material.control_of(row).name: material.control_of(row) for row in material.rows}.values()
    )
    drawn = False
    for control in controls:
        rows = [r for r in material.rows if material.control_of(r) is control and r is not control]
        if rows:
            blocks += _against(control, rows, resamples)
            drawn = True
    if not drawn:
        why = (
            "There is one row only"
            if len(material.rows) == 1
            else "No two rows are of the same files"
        )
        blocks.append(Note(f"{why}: nothing to compare query by query."))
    return Section("differences", "Differences, query by query", blocks)


def _against(control: Row, rows: Sequence[Row], resamples: int) -> list[Block]:
    if not control.queries:
        return [Note(f"Against {control.name}: {_unrecorded(control)}.")]
    recorded = [run.values for row in (control, *rows) for run in row.queries]
    metrics = {name: m for name, m in headlines().items() if all(name in v for v in recorded)}
    found: dict[str, dict[str, Difference]] = {}
    lines = []
    for row in rows:
        if not row.queries or not same_queries(row, control):
            said = "other queries" if row.queries else _unrecorded(row)
            lines.append(row_line(row, [said, NONE, NONE, NONE, NONE]))
            continue
        found[row.name] = {
            metric: paired_difference(
                control.queries, row.queries, metric, resamples=resamples, seed=0
            )
            for metric in metrics
        }
        one = next(iter(found[row.name].values()))
        cells = [_interval(found[row.name][metric]) for metric in metrics]
        cells += [
            f"{one.queries:,}",
            f"{one.people:,}",
            f"{one.seeds[1]} / {one.seeds[0]}",
        ]
        lines.append(row_line(row, cells))
    head = [f"run, minus {control.name}", *(f"{m} [95 %]" for m in metrics.values())]
    head += ["queries", "people", "seeds, row / control"]
    blocks: list[Block] = [Table(head, lines, f"Differences to {control.name}, percent points")]
    shown = [row for row in rows if row.name in found]
    if shown:
        blocks.append(Figures([_forest(control, shown, found, metric) for metric in metrics]))
    return blocks


def _unrecorded(row: Row) -> str:
    some = any(run.queries is not None for run in row.runs)
    return f"not recorded by {'all of ' if some else ''}these runs; make evaluate RUN=... adds it"


def _interval(one: Difference) -> str:
    clear = "" if one.clear else " (0 inside)"
    return f"{signed(one.mean)} [{signed(one.low)}, {signed(one.high)}]{clear}"


def _forest(
    control: Row, rows: Sequence[Row], found: dict[str, dict[str, Difference]], metric: str
):
    label = headlines()[metric]
    names = [textwrap.fill(row.name, _NAME_WIDTH) for row in rows]
    heights: list[float] = []
    top = 0.0
    for name in names:  # names stand above their intervals, so that these have all the width
        top += 0.62 + 0.5 * (name.count("\n") + 1)
        heights.append(top)
    with drawing(WIDTH, 0.9 + 0.36 * (top + 0.5)) as drawn:
        axes = drawn.add_subplot()
        axes.axvline(0, color="black", linewidth=1)
        for height, name, row in zip(heights, names, rows, strict=True):
            one = found[row.name][metric]
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
        axes.set(yticks=[], ylim=(top + 0.5, -0.1), xlabel=f"{label}, percent points")
        axes.margins(x=0.08)
        axes.spines["left"].set_visible(False)
        alt = "; ".join(f"{r.name}: {_interval(found[r.name][metric])}" for r in rows)
        title = f"{label} minus that of {control.name}; hollow: zero is inside"
        return figure(drawn, f"{label} against {control.name}. {alt}", title)
