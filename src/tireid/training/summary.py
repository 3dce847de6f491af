"""Print the metrics of a split as one table."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint
from rich.markup import escape
from rich.table import Table

from tireid.checkpoints.last_checkpoint import LastCheckpoint
from tireid.console import show
from tireid.metrics.names import DIRECTIONS, METRICS, WITHOUT_OWN_IMAGE

CHOSEN = {
    "val": "best on val",
    "last": "the last epoch",
    "test": "[bold red]best on the TEST split: not to be compared with others[/bold red]",
}


def print_metrics(
    metrics: Mapping[str, float],
    split: str,
    title: str,
    published: Mapping[str, float] | None = None,
) -> None:
    """Print the metrics of a split as one table, a row a direction.

    Args:
        metrics: By their names in logs, in percent.
        split: The split.
        title: Title of the table.
        published: Likewise, those of the method on this data set, for a row of their own.
    """
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("direction")
    for metric in METRICS.values():
        table.add_column(metric.label, justify="right")
    table.caption_justify = "left"
    rows = [(label, prefix, "") for prefix, label in DIRECTIONS.items()]
    for label, prefix, suffix in [*rows, ("text to image *", "", WITHOUT_OWN_IMAGE)]:
        values = [metrics.get(f"{split}/{prefix}{name}{suffix}") for name in METRICS]
        if any(value is not None for value in values):
            table.add_row(label, *map(_cell, values))
            if suffix:
                table.caption = "* without the image that the caption was written for"
    if published:
        values = (published.get(f"{split}/{name}") for name in METRICS)
        table.add_row("published", *map(_cell, values), style="dim")
    show(table)
    sets = dict.fromkeys(
        parts[1] for name in metrics if len(parts := name.split("/")) == 3 and parts[0] == split
    )
    if sets:
        of = {one: {f"{split}/{m}": metrics[f"{split}/{one}/{m}"] for m in METRICS} for one in sets}
        print_by_dataset(of, split, "each data set alone, text to image, percent")


def print_by_dataset(metrics: Mapping[str, Mapping[str, float]], split: str, title: str) -> None:
    """Print the text-to-image metrics of several data sets as one table, a row a data set."""
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("data set")
    for metric in METRICS.values():
        table.add_column(metric.label, justify="right")
    for dataset, values in metrics.items():
        cells = (values.get(f"{split}/{name}") for name in METRICS)
        table.add_row(escape(dataset), *map(_cell, cells))
    show(table)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def chosen_checkpoint(selection: str, callbacks: list[Any]) -> str:
    """Return the path of the checkpoint that `selection` names.

    Raises:
        ValueError: If no callback wrote it.
    """
    kind = LastCheckpoint if selection == "last" else ModelCheckpoint
    for callback in callbacks:
        if isinstance(callback, kind) and callback.best_model_path:
            return callback.best_model_path
    raise ValueError(
        f"selection={selection}: expected a checkpoint to test, got none: the training ended "
        "before its first validation; train longer, or set selection=last"
    )
