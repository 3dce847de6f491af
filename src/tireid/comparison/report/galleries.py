"""Queries that one method answers and another does not, with their pictures."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from tireid.comparison.report.blocks import Answer, Block, Figure, Fold, Found, Note, Query, Section
from tireid.comparison.report.material import Material, Row, same_queries
from tireid.comparison.report.style import thumbnail
from tireid.comparison.test_splits import TestSplit
from tireid.retrieval.query_results import QueryResults

FAR = 10  # a first right image behind this rank is not found
_SHOWN = 3  # queries a direction
_PAIRS = 5  # of rows
_FEW_ROWS = 3  # of which each is compared with each
_IMAGES = 5  # a method

Thumbnails = Callable[[int, str], Figure]


def galleries(material: Material) -> Section | None:
    """Return queries on which rows and their controls disagree; None where none was recorded."""
    pairs = _pairs(material)
    if not pairs:
        return None
    blocks: list[Block] = [
        Note(
            f"Of all queries whose first right image is best in every seed of one row, and behind "
            f"rank {FAR} in every seed of the other, {_SHOWN} at even distances in the order of "
            "the split: none is picked by how it looks. Shown are the best images of the first "
            "seed. Dashed: the image the caption was written for. A tick and a solid green frame: "
            "the right person. A cross and a dotted orange frame: somebody else."
        )
    ]
    shown = _most_different(pairs)
    if len(shown) < len(pairs):
        left_out = len(pairs) - len(shown)
        blocks.append(
            Note(f"The {_PAIRS} rows with the largest test R@1 are shown; {left_out} more are not.")
        )
    opened = False
    said: set[str] = set()
    for control, row in shown:
        split = material.splits.get(row.first.test_data)
        why = _hidden(material, row, split)
        if split is None or why:
            if why not in said:
                blocks.append(Note(f"No pictures: {why}"))
            said.add(why)
            continue
        parts = list(_both_ways(control, row, split))
        first = not opened and any(isinstance(part, Query) for part in parts)
        blocks.append(Fold(f"{row.name}, against {control.name}", parts, opened=first))
        opened |= first
    return Section("galleries", "Where they disagree", blocks)


def _pairs(material: Material) -> list[tuple[Row, Row]]:
    """Return rows with their controls, and of few rows each with each, that rank the same."""
    rows = [row for row in material.rows if row.queries]
    found = [(material.control_of(row), row) for row in rows if material.control_of(row) is not row]
    if len(rows) <= _FEW_ROWS:
        known = {frozenset((one.name, other.name)) for one, other in found}
        for one, other in itertools.combinations(rows, 2):
            if frozenset((one.name, other.name)) not in known:
                found.append((one, other))
    return [
        (one, other)
        for one, other in found
        if one.queries and one.first.test_data == other.first.test_data and same_queries(one, other)
    ]


def _most_different(pairs: Sequence[tuple[Row, Row]]) -> list[tuple[Row, Row]]:
    def quality(pair: tuple[Row, Row]) -> float:
        return float(np.mean(pair[1].values("test/R1") or [0.0]))

    kept = sorted(pairs, key=quality, reverse=True)[:_PAIRS]
    return [pair for pair in pairs if pair in kept]


def _hidden(material: Material, row: Row, split: TestSplit | None) -> str:
    """Return why a row's pictures are not shown; empty: they are."""
    if split is None:
        return material.missing.get(row.first.test_data, "its data were not read")
    captions = sum(len(record.captions) for record in split.records)
    if any(len(one.pids) != captions for one in row.queries):
        return "these runs ranked a part of the captions only"
    return ""


def _both_ways(control: Row, row: Row, split: TestSplit) -> Iterator[Block]:
    made: dict[int, Figure] = {}
    for winner, loser in ((row, control), (control, row)):
        found = disagreements(winner.queries, loser.queries)
        chosen = _evenly(found, _SHOWN)
        yield Note(
            f"Found by {winner.name} and not by {loser.name}: {len(found):,} of "
            f"{len(winner.queries[0].pids):,} queries"
            f"{'.' if len(chosen) == len(found) else f', of which {len(chosen)} are shown.'}"
        )
        for query in chosen.tolist():
            yield _query(query, (winner, loser), split, made)


def disagreements(
    first: Sequence[QueryResults], second: Sequence[QueryResults]
) -> Int[ndarray, " query"]:
    """Return the queries that the first method always answers at once and the second never nearly.

    Args:
        first: Runs of a method whose first right image is the best one, in all of them.
        second: Runs of one where it is behind rank `FAR`, in all of them.
    """
    best = np.all([run.first_rank == 1 for run in first], axis=0)
    far = np.all([run.first_rank > FAR for run in second], axis=0)
    return np.flatnonzero(best & far)


def _evenly(found: Int[ndarray, " query"], count: int) -> Int[ndarray, " chosen"]:
    """Return the middles of as many equal parts."""
    if len(found) <= count:
        return found
    places = (np.arange(count) + 0.5) * len(found) / count
    return found[places.astype(int)]


def _query(query: int, rows: Sequence[Row], split: TestSplit, made: dict[int, Figure]) -> Block:
    captions = [caption for record in split.records for caption in record.captions]

    def picture(image: int, alt: str) -> Figure:
        if image not in made:
            made[image] = thumbnail(split.records[image].image_path, "")
        return Figure(made[image].source, alt, width=made[image].width)

    try:
        own = int(rows[0].queries[0].own[query])
        return Query(
            captions[query],
            picture(own, "The image the caption was written for") if own >= 0 else None,
            [_answer(row, query, picture) for row in rows],
        )
    except (OSError, IndexError) as error:
        return Note(f"A picture is missing: {error}")


def _answer(row: Row, query: int, picture: Thumbnails) -> Answer:
    run = row.queries[0]
    ranks = [int(one.first_rank[query]) for one in row.queries]
    found = []
    for place, image in enumerate(run.found[query, :_IMAGES].tolist()):
        right = bool(run.right[query, place])
        alt = f"Rank {place + 1} of {row.name}: {'the right' if right else 'another'} person"
        found.append(Found(picture(image, alt), right, float(run.scores[query, place])))
    seeds = ", ".join(f"{rank:,}" for rank in ranks)
    return Answer(row.name, f"first right image at rank {seeds}", found)
