"""The model card of an export: its origin, results, intended use and limits."""

from dataclasses import dataclass

from tireid.data.synthetic import SYNTHETIC
from tireid.metrics.names import DIRECTIONS, METRICS

_DIRECTIONS = {"": "text to image", "i2t_": "image to text"}
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


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts about a model; None where one was not recorded.

    Attributes:
        method: Name of the method's class.
        image_encoder: Name of the image encoder's class, and its initial weights.
        text_encoder: Name of the text encoder's class, and its initial weights.
        image_size: Height and width in pixels.
        dim: Width of the embeddings.
        parameters: Number of weights in the export.
        precision: Arithmetic of training and evaluation.
        dataset: Name of the data set.
        terms: Terms of its owners.
        checkpoint: File the weights come from.
        tested: Whether this checkpoint is the one that its run tested.
        selection: Rule of the run's choice of a checkpoint: `val`, `last` or `test`.
        converted_from: Checkpoint of the official LGUR code that it was converted from.
        metrics: Metrics of this checkpoint in percent, by name; None where undefined.
        seed: The run's seed.
        commit: Commit of this package's sources.
        dirty: Whether those sources had local changes.
        version: Version of this package.
        command: The command that trained the run.
    """

    method: str
    image_encoder: str
    text_encoder: str
    image_size: tuple[int, int]
    dim: int
    parameters: int
    precision: str
    dataset: str
    terms: str
    checkpoint: str
    tested: bool
    selection: str
    converted_from: str | None
    metrics: dict[str, float | None]
    seed: int | None
    commit: str | None
    dirty: bool | None
    version: str | None
    command: str | None


def model_card(facts: ModelFacts) -> str:
    """Return the card in Markdown."""
    height, width = facts.image_size
    commit = f"`{facts.commit}`" if facts.commit else _UNKNOWN
    rows = {
        "method": f"`{facts.method}`",
        "image encoder": f"{facts.image_encoder}; images of {height}x{width} pixels",
        "text encoder": facts.text_encoder,
        "size": f"{facts.parameters:,} weights; embeddings of {facts.dim}",
        "precision": f"`{facts.precision}`",
        "data set": facts.dataset,
        "terms of the data": facts.terms or "ask its owners",
        "command": f"`{facts.command}`" if facts.command else _UNKNOWN,
        "commit": f"{commit}, with local changes" if facts.commit and facts.dirty else commit,
        "version of tireid": facts.version or _UNKNOWN,
        "seed": _UNKNOWN if facts.seed is None else str(facts.seed),
        "checkpoint": _checkpoint(facts),
    }
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows.items())
    return f"""# {facts.method} on {facts.dataset}

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
{_CHOSEN_ON_TEST if facts.selection == "test" else ""}
{_results(facts.metrics)}

## Intended use

Research on finding images by text, on images whose subjects or owners allow it.

## Limits

- Not for surveillance: it must not be used to track or identify people without their consent or a
  legal basis. A high rank is no identification.
- Errors are frequent, and more frequent on people, places, cameras and wording that the training
  data lack. Descriptions carry the describer's bias.
- {_data_limits(facts)}
"""


def _checkpoint(facts: ModelFacts) -> str:
    if facts.converted_from:
        return (
            f"converted from `{facts.converted_from}` of the official LGUR code, which keeps the "
            "epoch that is best on the test split"
        )
    chosen = _SELECTIONS.get(facts.selection, facts.selection)
    if facts.tested:
        return f"`{facts.checkpoint}`: {chosen}"
    return f"`{facts.checkpoint}`, not the one that the run tested; the run's rule: {chosen}"


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


def _data_limits(facts: ModelFacts) -> str:
    if facts.dataset == SYNTHETIC:
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
