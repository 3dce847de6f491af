"""Figures that others have printed, with where: `published.csv`."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from tireid.metrics.names import METRICS


@dataclass(frozen=True, slots=True)
class Published:
    """One row of a printed table, test split, text to image.

    Attributes:
        method: Its name.
        year: Of its publication.
        image_encoder: As the source names it.
        text_encoder: Likewise.
        dataset: CUHK-PEDES, ICFG-PEDES or RSTPReid.
        metrics: In percent, by name, without those that the source does not print.
            Which mAP it is, and which split chose the checkpoint, sources do not always say.
        source: Where the figures are printed.
    """

    method: str
    year: int
    image_encoder: str
    text_encoder: str
    dataset: str
    metrics: dict[str, float]
    source: str


def read_published(dataset: str | None = None) -> list[Published]:
    """Return the printed figures, in the order of the file.

    Args:
        dataset: Only those of this data set, as configs (`cuhk_pedes`) or papers name it.

    Example:
        >>> read_published("cuhk_pedes")[0].dataset
        'CUHK-PEDES'
    """
    wanted = None if dataset is None else _plain(dataset)
    content = (
        resources.files("tireid.comparison").joinpath("published.csv").read_text(encoding="utf-8")
    )
    return [
        Published(
            method=line["method"],
            year=int(line["year"]),
            image_encoder=line["image_encoder"],
            text_encoder=line["text_encoder"],
            dataset=line["dataset"],
            metrics={name: float(line[name]) for name in METRICS if line.get(name)},
            source=line["source"],
        )
        for line in csv.DictReader(content.splitlines())
        if wanted in (None, _plain(line["dataset"]))
    ]


def published_metrics(published: Sequence[Published]) -> dict[str, str]:
    """Return the labels of the metrics that any of some rows has, by their names."""
    return {
        name: metric.label
        for name, metric in METRICS.items()
        if any(name in row.metrics for row in published)
    }


def _plain(dataset: str) -> str:
    return dataset.lower().replace("-", "").replace("_", "")
