"""R@1 by groups of captions: by the ground truth where there is one, else by what is read."""

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from tireid.captions import parse
from tireid.comparison.report.blocks import Block, Note, Section, Table
from tireid.comparison.report.loading import Comparison, Row
from tireid.comparison.table import spread
from tireid.comparison.test_splits import TestSplit
from tireid.data.records import Record, captions_of
from tireid.data.synthetic import SYNTHETIC
from tireid.retrieval.query_results import QueryResults
from tireid.runs.foreign import check, read_lines

TRUTH_FILE = "ground_truth.jsonl"  # beside the annotation file
_TRUTH = {  # what is taken of a line
    "path": str,
    "pid": int,
    "twin": int | None,
    "view": str,
    "occluder": str | None,
    "captions": [{"text": str, "mentioned": [str]}],
}
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
    "scarf, belt, watch or the like": ("scarf", "belt", "tie", "socks", "watch"),
    "age": ("age",),
    "build or height": ("build", "height"),
}
# The same under the names of the caption parser.
_READ = {
    "upper garment, colour": ("upper_color",),
    "upper garment, pattern": ("upper_pattern",),
    "lower garment, colour": ("lower_color",),
    "shoes": ("shoes_type",),
    "hair": ("hair_length", "hair_style", "hair_color"),
    "bag": ("bag_type",),
    "held object": ("held_type",),
    "hat": ("hat_type",),
    "glasses": ("glasses_type",),
    "scarf, belt, watch or the like": ("accessory_type",),
    "age": ("age",),
    "build or height": ("build", "height"),
}


def caption_group_tables(comparison: Comparison) -> Section | None:
    """Return a table for each way to group captions; None if no run has results by query."""
    blocks: list[Block] = []
    for sha256, split in comparison.splits.items():
        rows = [row for row in comparison.rows if row.first.test_data == sha256 and row.queries]
        if rows:
            blocks += _tables(rows, split)
    # Why captions of the synthetic data set could not be read.
    tested = {r.first.test_data for r in comparison.rows if r.dataset == SYNTHETIC and r.queries}
    missing = {why: None for sha256, why in comparison.missing.items() if sha256 in tested}
    blocks += [Note(f"No groups for {SYNTHETIC}: {why}") for why in missing]
    if not blocks:
        return None
    note = (
        "R@1 in percent, mean ± sample standard deviation over seeds, and the number of captions "
        "in each group. A caption may be in several groups. Groups differ in more than their name "
        "says, so compare runs within a group rather than groups."
    )
    return Section("caption-groups", "Results by caption group", [Note(note), *blocks])


def _tables(rows: Sequence[Row], split: TestSplit) -> Iterator[Block]:
    try:
        groupings = caption_groups(split.root, split.records)
    except (ValueError, OSError) as error:
        yield Note(f"The captions could not be grouped: {error}", warning=True)
        return
    captions = sum(len(record.captions) for record in split.records)
    rows = [row for row in rows if all(len(run.pids) == captions for run in row.queries)]
    if not rows:
        yield Note("These runs ranked only a part of the captions.")
        return
    for question, groups in groupings.items():
        shown = {name: queries for name, queries in groups.items() if len(queries)}
        head = ["run", *(f"{name} ({len(queries):,})" for name, queries in shown.items())]
        lines = [
            row.line([spread([_recall(run, q) for run in row.queries]) for q in shown.values()])
            for row in rows
        ]
        yield Table(head, lines, f"R@1 by {question}")


def _recall(run: QueryResults, queries: Int[ndarray, " query"]) -> float:
    return 100 * float(np.nanmean(run.values["R1"][queries]))


def caption_groups(
    root: Path, records: Sequence[Record]
) -> dict[str, dict[str, Int[ndarray, " query"]]]:
    """Group the captions of a split by what they mention and by what their image shows.

    Args:
        root: Folder of the data set, with its ground truth.
        records: Records of the split; their captions are the queries, in order.

    Returns:
        By the property in which groups differ, and by the name of the group, the indices of its
        captions; a caption may be in several or none. A data set without ground truth, such as real
        ones, has only the groups by what the parser of `tireid.captions` reads.

    Raises:
        ValueError: If the ground truth does not describe these records.
    """
    file = root / TRUTH_FILE
    if not file.exists():
        return _by_words([set(parse(text).values()) for text in captions_of(records)], _READ)
    rows = [_truth(line, file) for line in read_lines(file, inside=root)]
    twins = {row["twin"] for row in rows} | {row["pid"] for row in rows if row["twin"]}
    captions = _captions({root / "imgs" / row["path"]: row for row in rows}, records, file)
    mentioned = [names for _, names in captions]
    views = np.array([row["view"] for row, _ in captions])
    occluded = np.array([row["occluder"] is not None for row, _ in captions], dtype=bool)
    paired = np.array([row["pid"] in twins for row, _ in captions], dtype=bool)
    masks = {
        "view of the person in the described image": {
            name: np.isin(views, sides) for name, sides in _SIDES.items()
        },
        "visibility of the person in the described image": {
            "fully visible": ~occluded,
            "partly occluded": occluded,
        },
        "whether the person has a near twin": {"near twin": paired, "no near twin": ~paired},
    }
    return _by_words(mentioned, _MENTIONS) | _positions(masks)


def _by_words(
    mentioned: Sequence[Set[str]], groups: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Int[ndarray, " query"]]]:
    """Group captions by the attributes that each mentions."""
    counts = np.array([len(names) for names in mentioned], dtype=int)
    return _positions(
        {
            "number of attributes in the caption": {
                f"fewer than {_FEW}": counts < _FEW,
                f"{_FEW} to {_MANY - 1}": (counts >= _FEW) & (counts < _MANY),
                f"{_MANY} or more": counts >= _MANY,
            },
            "attribute in the caption": {
                name: [not names.isdisjoint(attributes) for names in mentioned]
                for name, attributes in groups.items()
            },
        }
    )


def _positions(masks: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        question: {name: np.flatnonzero(mask) for name, mask in groups.items()}
        for question, groups in masks.items()
    }


def _truth(line: str, file: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: expected a line of JSON for each image, got {error}") from error
    return check(row, _TRUTH, file, complete=True)


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
