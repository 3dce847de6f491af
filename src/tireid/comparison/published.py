"""Published results, with sources, from `published.csv` and `published_cross_domain.csv`."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from tireid.comparison.table import NONE
from tireid.metrics.names import METRICS


@dataclass(frozen=True, slots=True)
class Published:
    """A published result on the test split, text to image.

    Attributes:
        method: Name of the method.
        year: Year of publication.
        image_encoder: Image encoder as the source names it.
        text_encoder: Text encoder as the source names it.
        dataset: CUHK-PEDES, ICFG-PEDES or RSTPReid.
        metrics: R1, R5, R10 and mAP in percent, without those that the source does not report.
            Sources do not always say which mAP it is, nor which split chose the checkpoint.
        source: Paper or repository, with the table.
    """

    method: str
    year: int
    image_encoder: str
    text_encoder: str
    dataset: str
    metrics: dict[str, float]
    source: str


@dataclass(frozen=True, slots=True)
class CrossDomain:
    """A published result on the test split of a data set that was not trained on.

    Attributes:
        method: Name of the method.
        year: Year of publication.
        train: Data set of the training.
        test: Data set of the test.
        metrics: As in `Published`.
        source: Paper, with the table.
    """

    method: str
    year: int
    train: str
    test: str
    metrics: dict[str, float]
    source: str


def read_published(dataset: str | None = None) -> list[Published]:
    """Return the published results, in the order of the file.

    Args:
        dataset: Only results on this data set, named as in configs (`cuhk_pedes`) or papers.

    Example:
        >>> read_published("cuhk_pedes")[0].dataset
        'CUHK-PEDES'
    """
    found = [Published(**_entry(line)) for line in _lines("published.csv")]
    return [one for one in found if dataset is None or same_dataset(one.dataset, dataset)]


def read_cross_domain() -> list[CrossDomain]:
    """Return the published results of training on one data set and testing on another.

    Example:
        >>> first = read_cross_domain()[0]
        >>> first.method, first.train, first.test, first.metrics["R1"]
        ('LGUR', 'CUHK-PEDES', 'ICFG-PEDES', 34.25)
    """
    return [CrossDomain(**_entry(line)) for line in _lines("published_cross_domain.csv")]


def same_dataset(one: str, other: str) -> bool:
    """Return whether two names, of configs (`cuhk_pedes`) or papers, are those of one data set."""
    return _plain(one) == _plain(other)


def published_table(published: Sequence[Published]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of a table of published results; four columns of text first."""
    metrics = {n: m.label for n, m in METRICS.items() if any(n in row.metrics for row in published)}
    rows = [
        [
            *(f"{row.method} ({row.year})", row.image_encoder, row.text_encoder, row.dataset),
            *(f"{row.metrics[name]:.2f}" if name in row.metrics else NONE for name in metrics),
            row.source,
        ]
        for row in published
    ]
    head = ["method", "image encoder", "text encoder", "data set", *metrics.values(), "source"]
    return head, rows


def _lines(file: str) -> list[dict[str, str]]:
    content = resources.files("tireid.comparison").joinpath(file).read_text(encoding="utf-8")
    return list(csv.DictReader(content.splitlines()))


def _entry(line: dict[str, str]) -> dict[str, Any]:
    """Return the fields of a result: the columns of metrics are one of them."""
    metrics = {name: float(line[name]) for name in METRICS if line.get(name)}
    texts = {name: text for name, text in line.items() if name not in METRICS}
    return texts | {"year": int(line["year"]), "metrics": metrics}


def _plain(dataset: str) -> str:
    return dataset.lower().replace("-", "").replace("_", "")
