"""What a report says first: who is best, and whether that is clear."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tireid.comparison.report import load_comparison
from tireid.comparison.report.blocks import Note, Table
from tireid.comparison.report.head import head
from tireid.comparison.report.tables import results
from tireid.comparison.report.verdict import verdicts
from tireid.comparison.significance import paired_difference
from tireid.retrieval.query_results import query_results
from tireid.runs.results import Result, Runs


def result(label, recall, seed=1, **other):
    fields = {"dataset": "synthetic", "selection": "val", "steps": 200, "seconds": 60.0}
    fields |= {"images_per_second": 9.0, "parameters": 2_000_000, "test_data": "f00"}
    fields |= {"settings": "5e7", "commit": "", "metrics": {"test/R1": recall, "val/R1": 1.0}}
    return Result(label=label, seed=seed, **fields | other)


def kept(*results):
    return load_comparison({Path("kept.csv"): Runs(list(results), [])})


def test_the_best_row_is_named_with_its_distance_from_the_next():
    made = kept(result("a", 50.0), result("b", 54.0), result("c", 10.0))
    (said,) = verdicts(made)
    assert said.startswith("b has the best R@1: 54.0 %, 4.0 points above a, the next.")
    assert "not known: results by query are not recorded" in said
    first = head(made, when="now", command="x").blocks[0]
    assert isinstance(first, Note)
    assert (first.text, first.lead) == (said, True)


def test_a_row_chosen_on_test_or_tested_on_other_files_wins_over_nobody():
    cheated = result("b", 99.0, selection="test")
    assert list(verdicts(kept(result("a", 50.0), cheated))) == []
    assert list(verdicts(kept(result("a", 50.0), result("b", 60.0, test_data="bad")))) == []


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(("share", "word"), [(0.9, "That is clear"), (0.52, "That is not clear")])
def test_the_interval_says_whether_it_is_clear(seeds, share, word):
    rng = np.random.default_rng(0)
    pids = torch.arange(200) // 2
    people = torch.nn.functional.one_hot(pids).float()
    ranked = query_results(people, people, pids, pids, torch.arange(200))

    def queries(right):
        return replace(ranked, values={"R1": (rng.random(200) < right).astype(np.float64)})

    made = kept(*(result(n, r, s) for n, r in (("a", 50.0), ("b", 60.0)) for s in range(seeds)))
    rows = [
        replace(row, runs=[replace(run, queries=queries(right)) for run in row.runs])
        for row, right in zip(made.rows, (0.5, share), strict=True)
    ]
    (said,) = verdicts(replace(made, rows=rows))
    one = paired_difference(rows[0].queries, rows[1].queries, "R1")
    assert one.clear == (word == "That is clear")
    assert word in said
    assert f"[{one.low:+.1f}, {one.high:+.1f}]".replace("-", "\N{MINUS SIGN}") in said
    assert ("1 seed is few" in said) == (one.clear and seeds == 1)


def test_bars_are_as_long_as_the_mean_and_the_best_is_marked_but_not_one_chosen_on_test():
    made = kept(result("a", 50.0), result("b", 54.0), result("c", 99.0, selection="test"))
    table = next(block for block in results(made).blocks if isinstance(block, Table))
    place = list(table.head).index("R@1")
    assert [line.bars[place] for line in table.lines] == [0.5, 0.54, 0.99]
    assert [place in line.best for line in table.lines] == [False, True, False]
