"""What the captions of the embedded data set say: groups of queries, by its ground truth."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from tireid.data.records import Record

TRUTH_FILE = "ground_truth.jsonl"  # beside the annotation file
_FEW, _MANY = 6, 10  # attributes; thirds of the captions, nearly
_SIDES = {
    "front": ("front", "front_left", "front_right"),
    "side": ("left", "right"),
    "back": ("back", "back_left", "back_right"),
}
_MENTIONS = {
    "colour of the top": ("top_color",),
    "pattern of the top": ("top_pattern",),
    "colour of the lower garment": ("lower_color",),
    "shoes": ("shoes_type", "shoes_color"),
    "hair": ("hair_length", "hair_style", "hair_color"),
    "coat or jacket": ("outer_type", "outer_color"),
    "bag": ("bag_type", "bag_color"),
    "thing held": ("held_type", "held_color"),
    "hat": ("hat_type", "hat_color"),
    "glasses": ("glasses",),
    "build or height": ("build", "height"),
}


@dataclass(frozen=True, slots=True)
class CaptionGroups:
    """One way to group the captions of a split.

    Attributes:
        question: What the groups differ in.
        groups: Positions of captions by the group's name; a caption may be in several or none.
    """

    question: str
    groups: dict[str, Int[ndarray, " query"]]


def caption_groups(root: Path, records: Sequence[Record]) -> list[CaptionGroups]:
    """Group the captions of a split by what they say and by what their picture shows.

    Args:
        root: Of the data set, with its ground truth.
        records: Of the split; queries are their captions, in order.

    Returns:
        Nothing where the data set has no ground truth, as real ones have not.

    Raises:
        ValueError: If the ground truth does not describe these records.
    """
    file = root / TRUTH_FILE
    if not file.is_file():
        return []
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    by_path = {root / "imgs" / row["path"]: row for row in rows}
    twins = {row["twin"] for row in rows} | {row["pid"] for row in rows if row["twin"]}
    captions: list[tuple[dict[str, Any], set[str]]] = []
    for record in records:
        row = by_path.get(record.image_path)
        texts = [] if row is None else [caption["text"] for caption in row["captions"]]
        if row is None or texts != list(record.captions):
            raise ValueError(f"{file}: expected a line for each caption of {record.image_path}")
        captions += [(row, set(caption["mentioned"])) for caption in row["captions"]]

    def where(holds: Callable[[dict[str, Any], set[str]], bool]) -> Int[ndarray, " query"]:
        return np.flatnonzero([holds(row, said) for row, said in captions])

    return [
        CaptionGroups(
            "attributes that the caption mentions",
            {
                f"fewer than {_FEW}": where(lambda _, said: len(said) < _FEW),
                f"{_FEW} to {_MANY - 1}": where(lambda _, said: _FEW <= len(said) < _MANY),
                f"{_MANY} or more": where(lambda _, said: len(said) >= _MANY),
            },
        ),
        CaptionGroups(
            "the caption mentions",
            {
                name: where(lambda _, said, names=names: not said.isdisjoint(names))
                for name, names in _MENTIONS.items()
            },
        ),
        CaptionGroups(
            "the described picture shows the person from",
            {
                name: where(lambda row, _, views=views: row["view"] in views)
                for name, views in _SIDES.items()
            },
        ),
        CaptionGroups(
            "in the described picture the person is",
            {
                "in full sight": where(lambda row, _: row["occluder"] is None),
                "partly hidden": where(lambda row, _: row["occluder"] is not None),
            },
        ),
        CaptionGroups(
            "the person",
            {
                "has a near twin": where(lambda row, _: row["pid"] in twins),
                "has none": where(lambda row, _: row["pid"] not in twins),
            },
        ),
    ]
