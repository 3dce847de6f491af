"""R@1 by groups of captions, on data sets with ground truth."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from tireid.comparison.caption_groups import caption_groups
from tireid.comparison.report.blocks import Block, Note, Section, Table
from tireid.comparison.report.loading import Comparison, Row
from tireid.comparison.table import spread
from tireid.comparison.test_splits import TestSplit
from tireid.data.synthetic import SYNTHETIC
from tireid.retrieval.query_results import QueryResults


def caption_group_tables(comparison: Comparison) -> Section | None:
    """Return a table for each way to group captions; None without ground truth."""
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
    except (ValueError, KeyError, OSError) as error:
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
