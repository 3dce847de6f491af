"""R@1 by groups of captions, on data sets with ground truth."""

from collections.abc import Iterator, Sequence

import numpy as np

from tireid.comparison.caption_groups import CaptionGroups, caption_groups
from tireid.comparison.report.blocks import Block, Note, Section, Table
from tireid.comparison.report.loading import Comparison, Row
from tireid.comparison.table import spread
from tireid.comparison.test_splits import TestSplit
from tireid.data.synthetic import SYNTHETIC


def caption_group_tables(comparison: Comparison) -> Section | None:
    """Return a table for each way to group captions; None without ground truth."""
    blocks: list[Block] = []
    for sha256, split in comparison.splits.items():
        rows = [row for row in comparison.rows if row.first.test_data == sha256 and row.queries]
        if rows:
            blocks += _tables(rows, split)
    blocks += [Note(f"No groups for {SYNTHETIC}: {why}") for why in _missing(comparison)]
    if not blocks:
        return None
    note = (
        "R@1 in percent, mean ± sample standard deviation over seeds, and the number of captions "
        "in each group. A caption may be in several groups. Groups differ in more than their name "
        "says, so compare runs within a group rather than groups."
    )
    return Section("caption-groups", "Results by caption group", [Note(note), *blocks])


def _missing(comparison: Comparison) -> list[str]:
    """Return why captions of the synthetic data set could not be read."""
    rows = [row for row in comparison.rows if row.dataset == SYNTHETIC and row.queries]
    tested = {row.first.test_data for row in rows}
    return [why for sha256, why in comparison.missing.items() if sha256 in tested]


def _tables(rows: Sequence[Row], split: TestSplit) -> Iterator[Block]:
    try:
        groupings = caption_groups(split.root, split.records)
    except (ValueError, KeyError, OSError) as error:
        yield Note(f"The captions could not be grouped: {error}", warning=True)
        return
    captions = sum(len(record.captions) for record in split.records)
    rows = [row for row in rows if all(len(run.pids) == captions for run in row.queries)]
    if not rows:
        yield Note("These runs ranked only a part of the captions.")
        return
    for grouping in groupings:
        yield _table(rows, grouping)


def _table(rows: Sequence[Row], grouping: CaptionGroups) -> Table:
    groups = {name: queries for name, queries in grouping.groups.items() if len(queries)}
    head = ["run", *(f"{name} ({len(queries):,})" for name, queries in groups.items())]
    lines = [
        row.line(
            [
                spread([100 * float(np.nanmean(run.values["R1"][q])) for run in row.queries])
                for q in groups.values()
            ]
        )
        for row in rows
    ]
    return Table(head, lines, f"R@1 by {grouping.question}")
