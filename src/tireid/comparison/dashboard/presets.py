"""Charts that wandb's own panels cannot draw: every seed of a method, and reference lines.

Each is a Vega-Lite specification that the server keeps under a name of its own. There it fills in
`${field:x}`, with a column of what the panel asks of the runs, and `${string:x}`.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import wandb_workspaces.reports.v2.interface as wr

from tireid.comparison.dashboard.names import METHOD, SEED
from tireid.comparison.published import Published

_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
_GREY = "#555555"
# One line for each setting that tells methods apart.
_METHOD = r" + '\n' + ".join(f"(datum['${{field:{name}}}'] || '')" for name in METHOD)


@dataclass(frozen=True, slots=True)
class Preset:
    """A chart that the server keeps.

    Attributes:
        title: Shown above the chart, and in wandb's list of charts.
        metric: The summary value that it draws.
        spec: In Vega-Lite; its fields are the settings of a method, `seed` and `value`.
    """

    title: str
    metric: str
    spec: dict[str, Any]

    @property
    def name(self) -> str:
        """A name that changes with the content: what is kept under a name stays as it is."""
        content = json.dumps([self.title, self.spec], sort_keys=True).encode()
        return f"tireid-{hashlib.sha256(content).hexdigest()[:12]}"

    def panel(self, entity: str) -> wr.CustomChart:
        """Return the panel that draws it, of all runs of its grid."""
        return wr.CustomChart(
            query={"summary": {"keys": [self.metric]}, "config": {"keys": [*METHOD, SEED]}},
            chart_name=f"{entity}/{self.name}",
            chart_fields={name: name for name in (*METHOD, SEED)} | {"value": self.metric},
            chart_strings={"title": self.title},
        )


def seeds_and_references(metric: str, published: Sequence[Published]) -> Preset:
    """Each seed of each method, mean and deviation, and the printed figures as lines.

    Args:
        metric: Summary value of the test split, such as `test/R1`.
        published: On the same data set; those that do not print the metric have no line.
    """
    name = metric.removeprefix("test/")
    value = _field("value", "quantitative", title=f"{name}, test, %", scale={"zero": False})
    seeds = {
        "mark": {"type": "point", "filled": True, "opacity": 0.6, "size": 40},
        "encoding": {
            "y": value,
            "tooltip": [_field(SEED, "ordinal"), value],
        },
    }
    deviation = {
        "mark": {"type": "errorbar", "extent": "stdev", "ticks": {"size": 14}},
        "encoding": {"y": value},
    }
    mean = {
        "mark": {"type": "tick", "thickness": 3, "width": 40},
        "encoding": {"y": value | {"aggregate": "mean"}},
    }
    method = {
        "x": {
            "field": "method",
            "type": "nominal",
            "title": None,
            "axis": {
                "labelAngle": 0,
                "labelLimit": 250,
                "labelExpr": r"split(datum.label, '\n')",
            },
        },
        "color": {"field": "method", "legend": None, "scale": {"scheme": "tableau10"}},
    }
    layers: list[dict[str, Any]] = [
        {**layer, "encoding": {**layer["encoding"], **method}} for layer in (seeds, deviation, mean)
    ]
    lines = _reference_lines(name, published)
    return Preset(
        title=f"{name} on the test split: seeds, mean and standard deviation"
        + ("; dashed: as published" if lines else ""),
        metric=metric,
        spec={
            "$schema": _SCHEMA,
            "title": "${string:title}",
            "data": {"name": "wandb"},
            "transform": [{"calculate": _METHOD, "as": "method"}],
            "layer": layers + lines,
        },
    )


def _reference_lines(metric: str, published: Sequence[Published]) -> list[dict[str, Any]]:
    """Return a layer with the lines, and layers with their names."""
    found = sorted(
        (row for row in published if metric in row.metrics), key=lambda row: row.metrics[metric]
    )
    if not found:
        return []
    rows = [
        {
            "figure": row.metrics[metric],
            "name": f"{row.method} {row.year}, {row.image_encoder}: {row.metrics[metric]:g}",
            "source": row.source,
        }
        for row in found
    ]
    height = {"field": "figure", "type": "quantitative"}
    line = {
        "data": {"values": rows},
        "mark": {"type": "rule", "strokeDash": [4, 4], "color": _GREY},
        "encoding": {"y": height, "tooltip": [{"field": "name"}, {"field": "source"}]},
    }
    # Neighbouring lines are named at different places, or their names would overlap.
    places = [(0, "left"), ({"expr": "width / 2"}, "center"), ("width", "right")]
    names = [
        {
            "data": {"values": rows[first :: len(places)]},
            "mark": {"type": "text", "align": align, "dy": -5, "fontSize": 9, "color": _GREY},
            "encoding": {"x": {"value": place}, "y": height, "text": {"field": "name"}},
        }
        for first, (place, align) in enumerate(places)
        if rows[first :: len(places)]
    ]
    return [line, *names]


def _field(name: str, kind: str, **settings: Any) -> dict[str, Any]:
    return {"field": f"${{field:{name}}}", "type": kind, **settings}
