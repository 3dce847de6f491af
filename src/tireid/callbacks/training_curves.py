"""Draw the training: losses and validation metrics over the steps."""

from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback

from tireid.figures import COLOURS, log_scale, own_style
from tireid.files import replacing
from tireid.metrics.names import METRICS
from tireid.runs.log import read_columns

_TITLES = {"val": "Validation", "test": "TEST split, which selects the checkpoint"}
# In the names of terms.
_WORDS = {"loss": "sum", "id": "identity", "distil": "distilled"}


@own_style()
def draw_curves(
    columns: dict[str, list[tuple[int, float]]], path: Path, split: str = "val"
) -> None:
    """Draw the loss terms and the validation metrics side by side.

    Args:
        columns: Steps and values by metric, as `read_columns` returns them.
        path: The file to write.
        split: Split that validation embeds; `test` is written in red.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    losses, metrics = figure.subplots(1, 2)
    terms = {name: _term(name) for name in sorted(columns) if name.startswith("train/loss")}
    curves = {f"{split}/{metric.key}": metric.label for metric in METRICS.values() if metric.curve}
    panels = [
        (losses, terms, "loss (log scale)", "Training loss and its terms"),
        (metrics, curves, "percent", f"{_TITLES[split]}, text to image"),
    ]
    for axes, labels, label, title in panels:
        names = [name for name in labels if name in columns]
        for number, name in enumerate(names):
            steps, values = zip(*columns[name], strict=True)
            axes.plot(
                steps,
                values,
                label=labels[name],
                color=COLOURS[number % len(COLOURS)],
                marker="o" if axes is metrics else None,
                markersize=4,
                linewidth=1.4,
            )
        axes.set(title=title, xlabel="step", ylabel=label)
        axes.grid(alpha=0.3)
        if names:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9, frameon=False)
    if split == "test":
        metrics.title.set_color("red")
    if terms:
        log_scale(losses, min(value for name in terms for _, value in columns[name]))
    with replacing(path) as file:
        figure.savefig(file, dpi=110, format="png")


def _term(name: str) -> str:
    """Return the name of a logged term in words: the loss, and what is added up to it."""
    words = name.removeprefix("train/").removeprefix("loss_").split("_")
    return " ".join(_WORDS.get(word, word) for word in words)


class TrainingCurves(Callback):
    """Write `curves.png` from the run's `metrics.csv` when training ends.

    Args:
        output_dir: The run folder.
        validation_split: Split that validation embeds.
    """

    def __init__(self, output_dir: str, validation_split: str = "val") -> None:
        self.output_dir = Path(output_dir)
        self.split = validation_split

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw, if there is a CSV log."""
        for logger in trainer.loggers:
            logger.save()
        log = self.output_dir / "metrics.csv"
        if trainer.is_global_zero and log.exists():
            draw_curves(read_columns(log), self.output_dir / "curves.png", self.split)
