"""Group the queries of the synthetic data set by its ground truth."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from tireid.data.records import Record

TRUTH_FILE = "ground_truth.jsonl"  # beside the annotation file
_FEW, _MANY = 6, 10  # attributes, which split the captions nearly into thirds
_SIDES = {
    "front": ("front", "front_left", "front_right"),
    "side": ("left", "right"),
    "back": ("back", "back_left", "back_right"),
}
_MENTIONS = {
    "top, colour": ("top_color",),
    "top, pattern": ("top_pattern",),
    "lower garment, colour": ("lower_color",),
    "shoes": ("shoes_type", "shoes_color"),
    "hair": ("hair_length", "hair_style", "hair_color"),
    "coat or jacket": ("outer_type", "outer_color"),
    "bag": ("bag_type", "bag_color"),
    "held object": ("held_type", "held_color"),
    "hat": ("hat_type", "hat_color"),
    "glasses": ("glasses",),
    "build or height": ("build", "height"),
}


@dataclass(frozen=True, slots=True)
class CaptionGroups:
    """One way to group the captions of a split.

    Attributes:
        question: Property in which the groups differ.
        groups: Indices of captions, by the group's name; a caption may be in several or none.
    """

    question: str
    groups: dict[str, Int[ndarray, " query"]]


def caption_groups(root: Path, records: Sequence[Record]) -> list[CaptionGroups]:
    """Group the captions of a split by what they mention and by what their image shows.

    Args:
        root: Folder of the data set, with its ground truth.
        records: Records of the split; their captions are the queries, in order.

    Returns:
        One item for each question; nothing for a data set without ground truth, such as real ones.

    Raises:
        ValueError: If the ground truth does not describe these records.
    """
    file = root / TRUTH_FILE
    if not file.is_file():
        return []
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    twins = {row["twin"] for row in rows} | {row["pid"] for row in rows if row["twin"]}
    captions = _captions({root / "imgs" / row["path"]: row for row in rows}, records, file)

    def where(holds: Callable[[dict[str, Any], set[str]], bool]) -> Int[ndarray, " query"]:
        return np.flatnonzero([holds(row, mentioned) for row, mentioned in captions])

    return [
        CaptionGroups(
            "number of attributes in the caption",
            {
                f"fewer than {_FEW}": where(lambda _, mentioned: len(mentioned) < _FEW),
                f"{_FEW} to {_MANY - 1}": where(
                    lambda _, mentioned: _FEW <= len(mentioned) < _MANY
                ),
                f"{_MANY} or more": where(lambda _, mentioned: len(mentioned) >= _MANY),
            },
        ),
        CaptionGroups(
            "attribute in the caption",
            {
                name: where(lambda _, mentioned, names=names: not mentioned.isdisjoint(names))
                for name, names in _MENTIONS.items()
            },
        ),
        CaptionGroups(
            "view of the person in the described image",
            {
                name: where(lambda row, _, views=views: row["view"] in views)
                for name, views in _SIDES.items()
            },
        ),
        CaptionGroups(
            "visibility of the person in the described image",
            {
                "fully visible": where(lambda row, _: row["occluder"] is None),
                "partly occluded": where(lambda row, _: row["occluder"] is not None),
            },
        ),
        CaptionGroups(
            "whether the person has a near twin",
            {
                "near twin": where(lambda row, _: row["pid"] in twins),
                "no near twin": where(lambda row, _: row["pid"] not in twins),
            },
        ),
    ]


def _captions(
    rows: Mapping[Path, dict[str, Any]], records: Sequence[Record], file: Path
) -> list[tuple[dict[str, Any], set[str]]]:
    """Return the ground truth of each caption: that of its image, and what it mentions."""
    captions = []
    for record in records:
        row = rows.get(record.image_path)
        texts = [] if row is None else [caption["text"] for caption in row["captions"]]
        if row is None or texts != list(record.captions):
            raise ValueError(f"{file}: expected a line for each caption of {record.image_path}")
        captions += [(row, set(caption["mentioned"])) for caption in row["captions"]]
    return captions
