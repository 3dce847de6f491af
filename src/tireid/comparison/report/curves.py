"""Validation metrics and training loss over the steps, with mean and range over seeds."""

from collections.abc import Sequence

import numpy as np

from tireid.comparison.report.blocks import Block, Figure, Figures, Note, Section
from tireid.comparison.report.loading import Comparison, Run
from tireid.comparison.report.style import WIDTH, drawing, figure, swatch
from tireid.figures import log_scale
from tireid.metrics.names import headlines

_MOST_BANDS = 8


def curves(comparison: Comparison) -> Section:
    """Return the curves of all rows, with a figure for each data set and metric."""
    blocks: list[Block] = [
        Note(
            f"Lines are means over seeds; bands (for up to {_MOST_BANDS} rows) span the lowest to "
            "the highest seed. Losses of different methods have different terms and do not compare."
        )
    ]
    for dataset in comparison.datasets:
        panels = [_panel(dataset, comparison, name) for name in (*headlines(), "loss")]
        drawn = [panel for panel in panels if panel is not None]
        if drawn:
            legend = [(row.name, swatch(row.style)) for row in comparison.rows_on(dataset)]
            blocks.append(Figures(drawn, legend))
    if len(blocks) == 1:
        blocks = [Note("Not recorded by these runs.")]
    return Section("curves", "Curves", blocks)


def _panel(dataset: str, comparison: Comparison, name: str) -> Figure | None:
    found = [
        (row, [line for run in row.runs if (line := _line(run, name))])
        for row in comparison.rows_on(dataset)
    ]
    rows = [(row, lines) for row, lines in found if lines]
    if not rows:
        return None
    label = "training loss"
    if name != "loss":
        label = f"validation {headlines()[name]}, percent"
    if any(row.first.selection == "test" for row, _ in rows) and name != "loss":
        label = label.replace("validation", "validation (or TEST, if chosen on it)")
    with drawing(WIDTH, 3.0) as drawn:
        axes = drawn.add_subplot()
        lowest = np.inf
        for row, lines in rows:
            keywords = row.style.keywords
            if name == "loss":
                keywords |= {"marker": None}
            steps, values = _common(lines)
            if values is None:  # seeds were validated at different steps
                for line in lines:
                    axes.plot(*zip(*line, strict=True), **keywords)
                continue
            lowest = min(lowest, values.min())
            axes.plot(steps, values.mean(0), **keywords)
            if len(values) > 1 and len(rows) <= _MOST_BANDS:
                axes.fill_between(
                    steps, values.min(0), values.max(0), color=row.style.colour, alpha=0.15, lw=0
                )
        axes.set(xlabel="step", ylabel=label)
        if name == "loss" and 0 < lowest < np.inf:
            log_scale(axes, lowest)
        several = f" on {dataset}" if len(comparison.datasets) > 1 else ""
        ends = "; ".join(
            f"{row.name}: {np.mean([line[-1][1] for line in lines]):.1f}" for row, lines in rows
        )
        return figure(drawn, f"{label} over steps{several}. At the end {ends}", f"{label}{several}")


def _line(run: Run, name: str) -> list[tuple[int, float]]:
    if name == "loss":
        return list(run.curves.get("train/loss", ()))
    split = "test" if run.result.selection == "test" else "val"
    line = list(run.curves.get(f"{split}/{name}", ()))
    if split == "test":
        line = line[:-1]  # the test at the end is logged under the same name
    if line:
        return line
    validations: Sequence[dict[str, float]] = run.record.get("validations") or []
    values = [v[f"{split}/{name}"] for v in validations if v.get(f"{split}/{name}") is not None]
    step = run.result.steps / max(len(values), 1)
    return [(round(step * number), value) for number, value in enumerate(values, 1)]


def _common(lines: Sequence[Sequence[tuple[int, float]]]):
    """Return the steps and the values, a row for each seed; None instead if the steps differ."""
    steps = [step for step, _ in lines[0]]
    if any([step for step, _ in line] != steps for line in lines):
        return steps, None
    return steps, np.array([[value for _, value in line] for line in lines])
