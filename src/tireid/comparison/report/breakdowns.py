"""R@1 by what captions say and by what pictures show, on data whose making is known."""

from collections.abc import Iterator, Sequence

import numpy as np

from tireid.comparison.caption_groups import CaptionGroups, caption_groups
from tireid.comparison.report.blocks import Block, Note, Section, Table
from tireid.comparison.report.material import Material, Row
from tireid.comparison.report.words import row_line, spread
from tireid.comparison.test_splits import MADE, TestSplit


def breakdowns(material: Material) -> Section | None:
    """Return a table a question; None where nothing is known of the captions."""
    blocks: list[Block] = []
    for sha256, split in material.splits.items():
        rows = [row for row in material.rows if row.first.test_data == sha256 and row.queries]
        if rows:
            blocks += _tables(rows, split)
    blocks += [Note(f"Not on {MADE}: {why}") for why in _missing(material)]
    if not blocks:
        return None
    note = (
        "R@1 of the captions in each group, mean ± sample standard deviation over seeds. A caption "
        "may be in several groups of one table. Groups differ in more than their name says, so "
        "read along a column rather than across."
    )
    return Section("breakdown", "By what the captions say", [Note(note), *blocks])


def _missing(material: Material) -> list[str]:
    """Return why the captions of rows on made people could not be read."""
    tested = {row.first.test_data for row in material.rows if row.dataset == MADE and row.queries}
    return [why for sha256, why in material.missing.items() if sha256 in tested]


def _tables(rows: Sequence[Row], split: TestSplit) -> Iterator[Block]:
    try:
        groupings = caption_groups(split.root, split.records)
    except (ValueError, KeyError, OSError) as error:
        yield Note(f"The captions could not be grouped: {error}", warning=True)
        return
    captions = sum(len(record.captions) for record in split.records)
    rows = [row for row in rows if all(len(run.pids) == captions for run in row.queries)]
    if not rows:
        yield Note("These runs ranked a part of the captions only.")
        return
    for grouping in groupings:
        yield _table(rows, grouping)


def _table(rows: Sequence[Row], grouping: CaptionGroups) -> Table:
    groups = {name: queries for name, queries in grouping.groups.items() if len(queries)}
    head = ["run", *(f"{name} ({len(queries):,})" for name, queries in groups.items())]
    lines = [
        row_line(
            row,
            [
                spread([100 * float(np.nanmean(run.values["R1"][q])) for run in row.queries])
                for q in groups.values()
            ],
        )
        for row in rows
    ]
    caption = f"{grouping.question[:1].upper()}{grouping.question[1:]}: R@1 (number of captions)"
    return Table(head, lines, caption)
