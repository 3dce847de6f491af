"""The model card of an export: its origin, results, intended use and limits."""

from collections.abc import Mapping
from typing import Any

import yaml

from tireid.data.synthetic import SYNTHETIC
from tireid.metrics.names import DIRECTIONS, METRICS

_UNKNOWN = "not recorded"
_SELECTIONS = {
    "val": "the best epoch on the validation split",
    "last": "the last epoch",
    "test": "**chosen on the test split**",
}
_CHOSEN_ON_TEST = """
**This checkpoint was chosen on the test split.** Its test metrics are better than what it would
reach on other data, and do not compare with those of checkpoints that were chosen on validation
data.
"""


def model_card(
    method: str, dataset: str, facts: Mapping[str, str], record: Mapping[str, Any], licence: str
) -> str:
    """Return the card in Markdown, below the header that the model hub reads.

    Args:
        method: Name of the method.
        dataset: Name of the data set.
        facts: What else describes the model, by name.
        record: The record of the export, with the `version` of this package that the run had, and
            `converted_from`, if it was: the checkpoint of the method's `official_code`.
        licence: Licence of the weights, as the hub names it.
    """
    commit = f"`{record['commit']}`" if record["commit"] else _UNKNOWN
    changed = ", with local changes" if record["commit"] and record["dirty"] else ""
    rows = {
        "method": method,
        **facts,
        "commit": commit + changed,
        "version of tireid": record["version"] or _UNKNOWN,
        "seed": _UNKNOWN if record["seed"] is None else str(record["seed"]),
        "checkpoint": _checkpoint(record),
    }
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows.items())
    return f"""---
{yaml.safe_dump(_header(method, dataset, record["metrics"], licence), sort_keys=False)}---

# {method} on {dataset}

Ranks images of people by a sentence that describes one: two encoders, whose unit-norm embeddings
are compared by their dot product. For inference only: the heads that classify training identities
are not included.

```python
import tireid

retriever = tireid.load("this/folder")
images = retriever.encode_image(["1.jpg", "2.jpg"])
scores = retriever.encode_text(["a woman in a red coat"]) @ images.T
```

| | |
| --- | --- |
{table}

## Results
{_CHOSEN_ON_TEST if record["selection"] == "test" else ""}
{_results(record["metrics"])}

## Intended use

Research on finding images by text, on images whose subjects or owners allow it.

## Limits

- Not for surveillance: it must not be used to track or identify people without their consent or a
  legal basis. A high rank is no identification.
- Errors are frequent, and more frequent on people, places, cameras and wording that the training
  data lack. Descriptions carry the describer's bias.
- {_data_limits(dataset)}
"""


def _header(
    method: str, dataset: str, metrics: Mapping[str, float | None], licence: str
) -> dict[str, Any]:
    """Return the metadata of a card: licence, tags, data sets, and metrics on the test split."""
    values = [
        {"type": metric.key, "name": f"{metric.label}, {direction}", "value": round(value, 2)}
        for prefix, direction in DIRECTIONS.items()
        for metric in METRICS.values()
        if (value := metrics.get(f"test/{prefix}{metric.key}")) is not None
    ]
    result = {
        "task": {"type": "text-to-image-person-retrieval"},
        "dataset": {"type": dataset, "name": dataset, "split": "test"},
        "metrics": values,
    }
    results = {"model-index": [{"name": f"{method} on {dataset}", "results": [result]}]}
    return {
        "license": licence,
        "library_name": "tireid",
        "tags": ["tireid", "person-re-identification", "text-to-image-retrieval", method.lower()],
        "datasets": [dataset],
        "metrics": [metric.key for metric in METRICS.values() if metric.compared],
    } | (results if values else {})


def _checkpoint(record: Mapping[str, Any]) -> str:
    if official := record["converted_from"]:
        return (
            f"converted from `{official}` of the official {record['official_code']} code, which "
            "keeps the epoch that is best on the test split"
        )
    chosen = _SELECTIONS.get(record["selection"], record["selection"])
    if record["tested"]:
        return f"`{record['checkpoint']}`: {chosen}"
    return f"`{record['checkpoint']}`, not the one that the run tested; the run's rule: {chosen}"


def _results(metrics: dict[str, float | None]) -> str:
    lines = []
    for split in ("val", "test"):
        for prefix, direction in DIRECTIONS.items():
            names = [f"{split}/{prefix}{name}" for name in METRICS]
            if any(name in metrics for name in names):
                cells = " | ".join(_percent(metrics.get(name)) for name in names)
                lines.append(f"| {split} | {direction} | {cells} |")
    if not lines:
        return "No metrics of this checkpoint are recorded; `tireid evaluate` computes them."
    head = f"| split | direction | {' | '.join(name.replace('_', ' ') for name in METRICS)} |"
    ruler = "| --- | --- |" + " --- |" * len(METRICS)
    return "\n".join(["In percent.", "", head, ruler, *lines])


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _data_limits(dataset: str) -> str:
    if dataset == SYNTHETIC:
        return (
            "The training data are synthetic: drawn by a program, nobody was photographed. The "
            "weights\n  are of no use on photographs."
        )
    return (
        "The training data show real people and are distributed under their owners' terms (above), "
        "which bind users of these weights too."
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
