"""Figures that others have printed, with where: `published.csv`."""

import csv
from dataclasses import dataclass
from importlib import resources

METRICS = ("R1", "R5", "R10", "mAP")


@dataclass(frozen=True, slots=True)
class Published:
    """One row of a printed table, test split, text to image.

    Attributes:
        method: Its name.
        year: Of its publication.
        image_encoder: As the source names it.
        text_encoder: Likewise.
        dataset: CUHK-PEDES, ICFG-PEDES or RSTPReid.
        metrics: R1, R5, R10 and mAP in percent, without those that the source does not print.
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
            metrics={name: float(line[name]) for name in METRICS if line[name]},
            source=line["source"],
        )
        for line in csv.DictReader(content.splitlines())
        if wanted in (None, _plain(line["dataset"]))
    ]


def _plain(dataset: str) -> str:
    return dataset.lower().replace("-", "").replace("_", "")
