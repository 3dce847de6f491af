"""Results as a picture: a dot a seed, a bar at their mean, a line a row of the table."""

import os
import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path

from tireid.comparison.table import marked_label
from tireid.figures import own_style
from tireid.metrics.names import headlines
from tireid.runs.results import Result, rows_of

# Dark blue and black: told apart by colour-blind readers, and in print by their shapes.
_DOT, _MEAN = "#0072B2", "#000000"
_LABEL_WIDTH = 44


@own_style({"text.parse_math": False})  # labels are anybody's
def draw_results(results: Sequence[Result], path: Path, note: str = "") -> None:
    """Draw R@1 and mAP of the test split, in percent, one line a row of the table.

    Args:
        results: Complete runs, at least one.
        path: The picture to write; a reader sees the old one or the new one, never half of it.
        note: A line below, such as the number of runs that failed.
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
            values = [result.metrics[name] for result in row if name in result.metrics]
            if not values:
                continue
            axes.plot(
                values,
                [height] * len(values),
                "o",
                color=_DOT,
                markersize=6,
                alpha=0.75,
                label="a seed" if height == 0 else None,
            )
            axes.plot(
                [statistics.fmean(values)], [height], "|", color=_MEAN, markersize=17,
                markeredgewidth=2.2, label="mean" if height == 0 else None,
            )  # fmt: skip
        axes.set_title(f"test {metric}, percent")
        axes.grid(alpha=0.3)
        axes.margins(x=0.08)
    panels[0].set_yticks(range(len(rows)), labels, fontsize=9)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    for tick, row in zip(panels[0].get_yticklabels(), rows, strict=True):
        tick.set_color("red" if row[0].selection == "test" else "black")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False, title=note)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    figure.savefig(temporary, dpi=130)
    temporary.replace(path)
