"""Queries that one method answers and another does not, with their images."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from tireid.comparison.report.blocks import Answer, Block, Figure, Fold, Note, Query, Section
from tireid.comparison.report.loading import Comparison, Row, same_queries
from tireid.comparison.report.style import thumbnail
from tireid.comparison.test_splits import TestSplit
from tireid.data.records import captions_of
from tireid.retrieval.query_results import QueryResults

FAR = 10  # a query fails if its first correct image is beyond this rank
_SHOWN = 3  # queries for each direction
_PAIRS = 5  # pairs of rows
_FEW_ROWS = 3  # of so few rows all pairs are compared
_IMAGES = 5  # for each method


def galleries(comparison: Comparison) -> Section | None:
    """Return queries on which rows and their controls disagree; None if none was recorded."""
    pairs = _pairs(comparison)
    if not pairs:
        return None
    blocks: list[Block] = [
        Note(
            "Queries for which every seed of one row ranks a correct image first, and every seed "
            f"of the other ranks its first correct image beyond rank {FAR}. Of these, {_SHOWN} "
            "are shown, evenly spaced in the order of the split rather than picked by hand, with "
            "the best images of the first seed. Dashed frame: the described image. Tick and solid "
            "green frame: the correct identity. Cross and dotted orange frame: another identity."
        )
    ]
    shown = _most_different(pairs)
    if len(shown) < len(pairs):
        left_out = len(pairs) - len(shown)
        blocks.append(Note(f"{left_out} rows with a lower test R@1 are not shown."))
    hidden: dict[str, Note] = {}
    folds: list[Fold] = []
    for control, row in shown:
        split = comparison.splits.get(row.first.test_data)
        why = _hidden(comparison, row, split)
        if split is None or why:
            hidden[why] = Note(f"No images: {why}")
        else:
            parts = list(_both_ways(control, row, split))
            folds.append(Fold(f"{row.name}, against {control.name}", parts))
    blocks += hidden.values()
    first = next((fold for fold in folds if any(isinstance(b, Query) for b in fold.blocks)), None)
    blocks += [replace(fold, opened=fold is first) for fold in folds]
    return Section("galleries", "Where methods disagree", blocks)


def _pairs(comparison: Comparison) -> list[tuple[Row, Row]]:
    """Return rows with their controls, of few rows all pairs, that rank the same queries."""
    rows = [row for row in comparison.rows if row.queries]
    pairs = {
        frozenset((row.name, c.name)): (c, row)
        for row in rows
        if (c := comparison.control_of(row)) is not row
    }
    if len(rows) <= _FEW_ROWS:
        for one, other in itertools.combinations(rows, 2):
            pairs.setdefault(frozenset((one.name, other.name)), (one, other))
    return [
        (one, other)
        for one, other in pairs.values()
        if one.queries and one.first.test_data == other.first.test_data and same_queries(one, other)
    ]


def _most_different(pairs: Sequence[tuple[Row, Row]]) -> list[tuple[Row, Row]]:
    def quality(pair: tuple[Row, Row]) -> float:
        return float(np.mean(pair[1].values("test/R1") or [0.0]))

    best = sorted(pairs, key=quality, reverse=True)[:_PAIRS]
    return [pair for pair in pairs if pair in best]


def _hidden(comparison: Comparison, row: Row, split: TestSplit | None) -> str:
    """Return why the images of a row are not shown; empty if they are."""
    if split is None:
        return comparison.missing.get(row.first.test_data, "the data set was not read")
    captions = sum(len(record.captions) for record in split.records)
    if any(len(one.pids) != captions for one in row.queries):
        return "these runs ranked only a part of the captions"
    return ""


def _both_ways(control: Row, row: Row, split: TestSplit) -> Iterator[Block]:
    for winner, loser in ((row, control), (control, row)):
        queries = disagreements(winner.queries, loser.queries)
        count = min(_SHOWN, len(queries))  # the middle of each of so many equal parts
        chosen = queries[((np.arange(count) + 0.5) * len(queries) / max(count, 1)).astype(int)]
        yield Note(
            f"Found by {winner.name} and not by {loser.name}: {len(queries):,} of "
            f"{len(winner.queries[0].pids):,} queries"
            f"{'.' if len(chosen) == len(queries) else f', of which {len(chosen)} are shown.'}"
        )
        for query in chosen.tolist():
            yield _query(query, (winner, loser), split)


def disagreements(
    first: Sequence[QueryResults], second: Sequence[QueryResults]
) -> Int[ndarray, " query"]:
    """Return the queries that all runs of one method answer and all runs of another fail.

    Args:
        first: Runs of the first method, which rank a correct image first.
        second: Runs of the second, which rank their first correct image beyond `FAR`.
    """
    best = np.all([run.first_rank == 1 for run in first], axis=0)
    far = np.all([run.first_rank > FAR for run in second], axis=0)
    return np.flatnonzero(best & far)


def _query(query: int, rows: Sequence[Row], split: TestSplit) -> Block:
    captions = captions_of(split.records)
    described = int(rows[0].queries[0].own[query])
    try:
        return Query(
            captions[query],
            _image(split, described, "The described image") if described >= 0 else None,
            [_answer(row, query, split) for row in rows],
        )
    except (ValueError, IndexError) as error:
        return Note(f"An image cannot be shown: {error}")


def _answer(row: Row, query: int, split: TestSplit) -> Answer:
    run = row.queries[0]
    images = []
    for place, image in enumerate(run.found[query, :_IMAGES].tolist()):
        correct = bool(run.right[query, place])
        alt = f"Rank {place + 1} of {row.name}: {'the correct' if correct else 'another'} identity"
        score = f"{run.scores[query, place]:.2f}"
        images.append(replace(_image(split, image, alt), title=score, correct=correct))
    ranks = ", ".join(f"{one.first_rank[query]:,}" for one in row.queries)
    return Answer(row.name, f"first correct image at rank {ranks}", images)


def _image(split: TestSplit, position: int, alt: str) -> Figure:
    return thumbnail(split.records[position].image_path, alt)
