"""A picture of the training: losses and validation metrics over the steps."""

import csv
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback

# Okabe & Ito's palette, told apart by colour-blind readers too.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933"]


def read_columns(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Read Lightning's CSV log as (step, value) pairs by metric name."""
    columns: dict[str, list[tuple[int, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name not in ("step", "epoch"):
                    columns.setdefault(name, []).append((int(row["step"]), float(value)))
    return columns


def draw_curves(columns: dict[str, list[tuple[int, float]]], path: Path) -> None:
    """Draw the loss terms and the validation metrics side by side.

    Args:
        columns: As `read_columns` gives them.
        path: The picture to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    losses, metrics = figure.subplots(1, 2)
    panels = [
        (losses, "train/loss", "loss (log scale)", "Training loss and its terms"),
        (metrics, "val/R", "percent", "Validation, text to image"),
    ]
    for axes, prefix, label, title in panels:
        names = sorted(name for name in columns if name.startswith(prefix))
        if prefix == "val/R":
            names = [n for n in ("val/R1", "val/R5", "val/R10", "val/mAP") if n in columns]
        for number, name in enumerate(names):
            steps, values = zip(*columns[name], strict=True)
            axes.plot(
                steps,
                values,
                label=name.split("/", 1)[1],
                color=COLOURS[number % len(COLOURS)],
                marker="o" if prefix == "val/R" else None,
                markersize=4,
                linewidth=1.4,
            )
        axes.set(title=title, xlabel="step", ylabel=label)
        axes.grid(alpha=0.3)
        if names:
            axes.legend(fontsize=8)
    if "train/loss" in columns:
        losses.set_yscale("symlog", linthresh=1e-2)
    figure.savefig(path, dpi=110)


class TrainingCurves(Callback):
    """Write `curves.png` from the run's `metrics.csv` when training ends.

    Args:
        output_dir: The run folder.
    """

    def __init__(self, output_dir: str) -> None:
        self.output_dir = Path(output_dir)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw, if there is a CSV log."""
        for logger in trainer.loggers:
            logger.save()
        log = self.output_dir / "metrics.csv"
        if trainer.is_global_zero and log.exists():
            draw_curves(read_columns(log), self.output_dir / "curves.png")
