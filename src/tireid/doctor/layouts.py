"""The layouts of data sets as they are published, with the counts that their configs declare."""

from pathlib import Path
from typing import Any, NamedTuple

from tireid.data.annotations import Layout
from tireid.data.layouts import LAYOUTS
from tireid.data.split_counts import Counts
from tireid.files import conf_dir
from tireid.runs.foreign import read_yaml


class Published(NamedTuple):
    """What is published of a data set.

    Attributes:
        counts: Counts of each split; None: anybody's files, of any counts.
        other_releases: Counts of its other releases, by name.
        terms: Who hands it out, and for what.
    """

    counts: Counts | None
    other_releases: dict[str, Counts]
    terms: str


def published(dataset: str) -> Published:
    """Return what the config of a data set says of it, as training reads it."""
    file = Path(conf_dir()) / "dataset" / f"{dataset}.yaml"
    config: dict[str, Any] = read_yaml(file, "a config")
    return Published(config["counts"], config.get("other_releases", {}), config["terms"])


def layout_of_file(name: str) -> tuple[str, Layout] | None:
    """Return the data set, and its layout, whose annotation file has a name; None: no one's."""
    for dataset, layout in LAYOUTS.items():
        if name in layout.annotation_files:
            return dataset, layout
    return None
