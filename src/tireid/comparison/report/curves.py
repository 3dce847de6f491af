"""Validation metrics and training loss over the steps, mean and range over seeds."""

from collections.abc import Iterator, Sequence

import numpy as np

from tireid.comparison.report.blocks import Block, Figure, Figures, Note, Section
from tireid.comparison.report.material import Material, Row, Run
from tireid.comparison.report.style import WIDTH, drawing, figure
from tireid.comparison.report.words import key
from tireid.metrics.names import headlines

_MOST_BANDS = 8


def curves(material: Material) -> Section:
    """Return the curves of all rows, a figure a metric and data set."""
    blocks: list[Block] = [
        Note(
            f"Lines are means over seeds, bands (of up to {_MOST_BANDS} rows) run from the lowest "
            "to the highest seed. Losses of methods have different terms: their heights do not "
            "compare."
        )
    ]
    for dataset in material.datasets:
        drawn = [one for name in (*headlines(), "loss") for one in _panel(dataset, material, name)]
        if drawn:
            blocks += [key(material.rows_on(dataset)), Figures(drawn)]
    if len(blocks) == 1:
        blocks = [Note("Not recorded by these runs.")]
    return Section("curves", "Curves", blocks)


def _panel(dataset: str, material: Material, name: str) -> Iterator[Figure]:
    rows = [(row, found) for row in material.rows_on(dataset) if (found := _lines(row, name))]
    if not rows:
        return
    label = "training loss"
    if name != "loss":
        label = f"validation {headlines()[name]}, percent"
    if any(row.first.selection == "test" for row, _ in rows) and name != "loss":
        label = label.replace("validation", "validation (TEST where it chose)")
    from matplotlib.ticker import LogLocator

    with drawing(WIDTH, 3.0) as drawn:
        axes = drawn.add_subplot()
        lowest = np.inf
        for row, lines in rows:
            keywords = row.style.keywords
            if name == "loss":
                keywords |= {"marker": None}
            steps, values = _common(lines)
            if values is None:  # validated at other steps: each seed by itself
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
        if name == "loss" and lowest > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        several = f" on {dataset}" if len(material.datasets) > 1 else ""
        ends = "; ".join(f"{row.name}: {_end(lines):.1f}" for row, lines in rows)
        yield figure(drawn, f"{label} over steps{several}. At the end {ends}", f"{label}{several}")


def _lines(row: Row, name: str) -> list[list[tuple[int, float]]]:
    """Return a metric of each run that has it, as pairs of step and value."""
    found = [_line(run, name) for run in row.runs]
    return [line for line in found if line]


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
    known = [v[f"{split}/{name}"] for v in validations if v.get(f"{split}/{name}") is not None]
    step = run.result.steps / max(len(known), 1)
    return [(round(step * number), value) for number, value in enumerate(known, 1)]


def _common(lines: Sequence[Sequence[tuple[int, float]]]):
    """Return the steps and, a row a seed, the values; None for these if steps differ."""
    steps = [step for step, _ in lines[0]]
    if any([step for step, _ in line] != steps for line in lines):
        return steps, None
    return steps, np.array([[value for _, value in line] for line in lines])


def _end(lines: Sequence[Sequence[tuple[int, float]]]) -> float:
    return float(np.mean([line[-1][1] for line in lines]))
