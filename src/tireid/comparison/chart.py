"""A chart of results: a line for each table row, with a dot for each seed and a bar at the mean."""

import io
import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tireid.comparison.table import marked_label
from tireid.figures import COLOURS, own_style
from tireid.files import replacing
from tireid.metrics.names import headlines
from tireid.runs.results import Result, rows_of

_LABEL_WIDTH = 44  # characters


@own_style({"text.parse_math": False})  # a label is not mathematics
def draw_results(results: Sequence[Result], path: Path, note: str = "") -> None:
    """Draw R@1 and mAP of the test split, in percent.

    Args:
        results: Results of at least one run.
        path: The image file.
        note: A line below the chart.
    """
    from matplotlib.figure import Figure

    rows = rows_of(results)
    several_sets = len({result.dataset for result in results}) > 1
    labels = [
        textwrap.fill(
            marked_label(row[0]) + (f" [{row[0].dataset}]" if several_sets else ""), _LABEL_WIDTH
        )
        for row in rows
    ]
    lines = sum(label.count("\n") + 1.4 for label in labels)
    figure = Figure(figsize=(10, 1.6 + 0.26 * lines), layout="constrained")
    metrics = headlines("test/")
    panels = figure.subplots(1, len(metrics), sharey=True)
    for axes, (name, metric) in zip(panels, metrics.items(), strict=True):
        for height, row in enumerate(rows):
            _draw_row(axes, height, [one.metrics[name] for one in row if name in one.metrics])
        axes.set_title(f"test {metric}, percent")
        axes.grid(alpha=0.3)
        axes.margins(x=0.08)
    panels[0].set_yticks(range(len(rows)), labels, fontsize=9)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    for tick, row in zip(panels[0].get_yticklabels(), rows, strict=True):
        tick.set_color("red" if row[0].selection == "test" else "black")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False, title=note)
    image = io.BytesIO()
    figure.savefig(image, dpi=130, format=path.suffix.removeprefix("."))
    with replacing(path) as file:
        file.write(image.getvalue())


def _draw_row(axes: Any, height: int, values: Sequence[float]) -> None:
    if not values:
        return
    seed = {"color": COLOURS[0], "markersize": 6, "alpha": 0.75}
    mean = {"color": "black", "markersize": 17, "markeredgewidth": 2.2}
    named = height == 0  # once in the legend
    axes.plot(values, [height] * len(values), "o", label="a seed" if named else None, **seed)
    axes.plot([statistics.fmean(values)], [height], "|", label="mean" if named else None, **mean)
