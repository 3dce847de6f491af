"""Charts that W&B's own panels cannot draw: each seed of a method beside published results.

A chart is a Vega-Lite specification that the server stores under its name, and in which it replaces
`${field:x}` by a column of the runs' values, and `${string:x}` by a text.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import wandb_workspaces.reports.v2.interface as wr

from tireid.comparison.dashboard.names import METHOD, SEED
from tireid.comparison.published import Published
from tireid.metrics.names import headlines

_GREY = "#555555"
# One line for each setting that distinguishes methods.
_METHOD = r" + '\n' + ".join(f"(datum['${{field:{name}}}'] || '')" for name in METHOD)
# Neighbouring reference lines are labelled at different positions, so that labels do not overlap.
_POSITIONS = [(0, "left"), ({"expr": "width / 2"}, "center"), ("width", "right")]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart that the server stores.

    Attributes:
        title: Title above the chart and in W&B's list of charts.
        metric: The summary value that it draws.
        spec: Specification in Vega-Lite, with the fields of a method, `seed` and `value`.
    """

    title: str
    metric: str
    spec: dict[str, Any]

    @property
    def name(self) -> str:
        """A name that changes with the content, because the server never changes a stored chart."""
        content = json.dumps([self.title, self.spec], sort_keys=True).encode()
        return f"tireid-{hashlib.sha256(content).hexdigest()[:12]}"

    def panel(self, entity: str) -> wr.CustomChart:
        """Return the panel that draws all runs of its grid."""
        return wr.CustomChart(
            query={"summary": {"keys": [self.metric]}, "config": {"keys": [*METHOD, SEED]}},
            chart_name=f"{entity}/{self.name}",
            chart_fields={name: name for name in (*METHOD, SEED)} | {"value": self.metric},
            chart_strings={"title": self.title},
        )


def seed_charts(published: Sequence[Published]) -> list[Chart]:
    """Return the charts of a report, given the published results on its data set."""
    return [seed_chart(metric, published) for metric in headlines("test/")]


def seed_chart(metric: str, published: Sequence[Published]) -> Chart:
    """Return a chart of each seed, mean and deviation by method, with published results as lines.

    Args:
        metric: Summary value of the test split, such as `test/R1`.
        published: Results on the same data set; those without the metric have no line.
    """
    name = metric.removeprefix("test/")
    value = {"field": "${field:value}", "type": "quantitative"}
    value |= {"title": f"{name}, test, %", "scale": {"zero": False}}
    seed = {"field": f"${{field:{SEED}}}", "type": "ordinal"}
    axis = {"labelAngle": 0, "labelLimit": 250, "labelExpr": r"split(datum.label, '\n')"}
    by_method = {
        "x": {"field": "method", "type": "nominal", "title": None, "axis": axis},
        "y": value,
        "color": {"field": "method", "legend": None, "scale": {"scheme": "tableau10"}},
    }
    point = {"type": "point", "filled": True, "opacity": 0.6, "size": 40}
    methods = {
        "encoding": by_method,
        "layer": [
            {"mark": point, "encoding": {"tooltip": [seed, value]}},
            {"mark": {"type": "errorbar", "extent": "stdev", "ticks": {"size": 14}}},
            {
                "mark": {"type": "tick", "thickness": 3, "width": 40},
                "encoding": {"y": value | {"aggregate": "mean"}},
            },
        ],
    }
    lines = _reference_lines(name, published)
    title = f"{name} on the test split: seeds, mean and standard deviation"
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": "${string:title}",
        "data": {"name": "wandb"},
        "transform": [{"calculate": _METHOD, "as": "method"}],
        "layer": [methods, *lines],
    }
    return Chart(title + ("; dashed: published" if lines else ""), metric, spec)


def _reference_lines(metric: str, published: Sequence[Published]) -> list[dict[str, Any]]:
    """Return a layer with the lines and layers with their labels."""
    reported = [row for row in published if metric in row.metrics]
    rows = [
        {
            "value": row.metrics[metric],
            "name": f"{row.method} {row.year}, {row.image_encoder}: {row.metrics[metric]:g}",
            "source": row.source,
        }
        for row in sorted(reported, key=lambda row: row.metrics[metric])
    ]
    if not rows:
        return []
    height = {"field": "value", "type": "quantitative"}
    line = {
        "data": {"values": rows},
        "mark": {"type": "rule", "strokeDash": [4, 4], "color": _GREY},
        "encoding": {"y": height, "tooltip": [{"field": "name"}, {"field": "source"}]},
    }
    labels = [
        {
            "data": {"values": rows[first :: len(_POSITIONS)]},
            "mark": {"type": "text", "align": align, "dy": -5, "fontSize": 9, "color": _GREY},
            "encoding": {"x": {"value": position}, "y": height, "text": {"field": "name"}},
        }
        for first, (position, align) in enumerate(_POSITIONS)
        if rows[first :: len(_POSITIONS)]
    ]
    return [line, *labels]
