"""The one table of metrics: all that computes, logs, selects by or shows metrics reads it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from tireid.metrics.average_precision import average_precision, average_precision_trapezoid
from tireid.metrics.inverse_negative_penalty import inverse_negative_penalty
from tireid.metrics.recall import recall_at_k

WITHOUT_OWN_IMAGE = "_wm"  # ends the names of metrics without the matching image
IMAGE_TO_TEXT = "i2t_"  # begins the names of metrics of images that query texts
DIRECTIONS = {"": "text to image", IMAGE_TO_TEXT: "image to text"}  # by the prefix of a name


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric and where it is shown.

    Every metric is higher for better rankings, computed in both directions, logged, kept in
    `metrics.json`, shown in the summary of a run and in model cards, and accepted as `monitor`.

    Attributes:
        key: Name in logs and files.
        label: Name in tables and plots.
        of_ranks: Function from `(query, positives)` ranks to a fraction per query.
        compared: Whether tables, CSV files and dashboards that compare runs have it.
        curve: Whether the curves of a run show it.
        headline: Whether it stands for the others where room is short: in the lines of epochs, in
            charts, in paired differences.
        without_own_image: Whether it is also computed without the matching image.
    """

    key: str
    label: str
    of_ranks: Callable[[Tensor], Tensor]
    compared: bool = True
    curve: bool = True
    headline: bool = False
    without_own_image: bool = True


METRICS = {
    metric.key: metric
    for metric in (
        Metric("R1", "R@1", partial(recall_at_k, k=1), headline=True),
        Metric("R5", "R@5", partial(recall_at_k, k=5)),
        Metric("R10", "R@10", partial(recall_at_k, k=10)),
        Metric("mAP", "mAP", average_precision, headline=True, without_own_image=False),
        Metric(
            "mAP_trapezoid",
            "mAP (trapezoid)",
            average_precision_trapezoid,
            compared=False,
            curve=False,
        ),
        Metric("mINP", "mINP", inverse_negative_penalty, curve=False, without_own_image=False),
    )
}


def headlines(prefix: str = "") -> dict[str, str]:
    """Return the labels of the headline metrics by their names.

    Args:
        prefix: Precedes each name, such as `val/`.
    """
    return {f"{prefix}{m.key}": m.label for m in METRICS.values() if m.headline}


def compared(prefix: str = "") -> dict[str, str]:
    """Return the labels of the metrics that comparisons of runs show, by their names.

    Args:
        prefix: Precedes each name, such as `test/`.
    """
    return {f"{prefix}{m.key}": m.label for m in METRICS.values() if m.compared}


def monitors(split: str) -> list[str]:
    """Return the names of the metrics that may choose a checkpoint.

    Args:
        split: Split that validation embeds.
    """
    return [f"{split}/{direction}{key}" for direction in DIRECTIONS for key in METRICS]
