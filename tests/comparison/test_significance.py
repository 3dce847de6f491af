"""Confidence intervals hold what they promise, on made-up runs with a known difference."""

import numpy as np
import pytest

from tireid.comparison.significance import paired_difference
from tireid.retrieval.query_results import QueryResults

PEOPLE, CAPTIONS = 60, 5


def made(values, pids=None):
    values = np.asarray(values, np.float32)
    pids = np.arange(len(values)) if pids is None else pids
    none = np.zeros((len(values), 0))
    return QueryResults(
        values={"R1": values},
        first_rank=np.ones(len(values), np.int32),
        pids=pids,
        own=np.zeros(len(values), np.int64),
        found=none.astype(np.int32),
        scores=none.astype(np.float32),
        right=none.astype(bool),
        edges=np.linspace(-1, 1, 3),
        positives=np.zeros(2, np.int64),
        negatives=np.zeros(2, np.int64),
    )


def draw(rng, rate, seeds, spread=0.0):
    """Return runs whose hits come at a rate that differs by person, and by run."""
    person = rng.normal(0, 0.15, PEOPLE)
    runs = []
    for _ in range(seeds):
        chance = np.clip(rate + person + rng.normal(0, spread), 0, 1).repeat(CAPTIONS)
        runs.append(
            made(rng.random(PEOPLE * CAPTIONS) < chance, np.arange(PEOPLE).repeat(CAPTIONS))
        )
    return runs


def test_by_hand():
    first, second = made([1, 0, 0, 0]), made([1, 1, 1, 0])
    found = paired_difference([first], [second], "R1")
    assert found.mean == pytest.approx(50)
    assert (found.queries, found.identities, found.seeds) == (4, 4, (1, 1))
    # Sums of four draws with chance 1/2: 2.5 % and 97.5 % of Binomial(4, 1/2) / 4 are 0 and 1.
    assert (found.low, found.high) == (0, 100)


def test_equal_runs_cover_zero_exactly():
    run = made([1, 0, 1, 1, 0])
    found = paired_difference([run], [run], "R1")
    assert (found.mean, found.low, found.high) == (0, 0, 0)
    assert not found.clear


@pytest.mark.parametrize("difference", [0.0, 0.1])
def test_interval_covers_the_known_difference_as_often_as_promised(difference):
    """200 made-up comparisons; 95 % of the intervals should hold the truth."""
    covered = []
    for trial in range(200):
        rng = np.random.default_rng(trial)
        found = paired_difference(
            draw(rng, 0.4, 1), draw(rng, 0.4 + difference, 1), "R1", resamples=300
        )
        covered.append(found.low <= 100 * difference <= found.high)
    assert 0.9 <= np.mean(covered) <= 0.99


def test_a_clear_difference_is_called_clear():
    rng = np.random.default_rng(0)
    found = paired_difference(draw(rng, 0.3, 3, 0.01), draw(rng, 0.5, 3, 0.01), "R1")
    assert found.clear
    assert found.low > 0
    assert found.low <= 20 <= found.high


def test_seeds_that_differ_widen_the_interval():
    values = np.tile([1.0, 0.0], 50)
    steady = paired_difference([made(values)] * 3, [made(values)] * 3, "R1")
    better, worse = made(np.ones(100)), made(np.zeros(100))
    shaky = paired_difference([made(values)] * 3, [better, worse, made(values)], "R1")
    assert steady.high - steady.low == 0
    assert shaky.mean == pytest.approx(0)
    assert shaky.high - shaky.low > 40


def test_captions_of_one_person_count_as_one_observation():
    """Ten captions a person that are right or wrong together tell no more than one."""
    rng = np.random.default_rng(1)
    hits = (rng.random(40) < 0.5).astype(float)
    alone = paired_difference([made(np.zeros(40))], [made(hits)], "R1")
    pids = np.arange(40).repeat(10)
    many = paired_difference([made(np.zeros(400), pids)], [made(hits.repeat(10), pids)], "R1")
    assert many.queries == 400
    assert many.high - many.low == pytest.approx(alone.high - alone.low, rel=0.15)


def test_the_order_of_the_sides_turns_the_sign_and_queries_left_out_do_not_count():
    rng = np.random.default_rng(2)
    left_out = np.where(np.arange(60) < 5, np.nan, rng.random(60))
    first, second = made(left_out), made(rng.random(60))
    there, back = (
        paired_difference([first], [second], "R1", resamples=500),
        paired_difference([second], [first], "R1", resamples=500),
    )
    assert there.queries == 55
    assert there.mean == pytest.approx(-back.mean)
    assert there.mean == pytest.approx(
        100 * np.mean((second.values["R1"] - left_out)[5:]), abs=1e-4
    )


def test_other_queries_and_metrics_are_refused():
    run = made([1, 0])
    with pytest.raises(ValueError, match="expected runs tested on the same queries, got 2 and 3"):
        paired_difference([run], [made([1, 0, 1])], "R1")
    with pytest.raises(ValueError, match="expected one of R1, got 'mAP'"):
        paired_difference([run], [run], "mAP")
    with pytest.raises(ValueError, match="expected runs of two methods, got 0 and 1"):
        paired_difference([], [run], "R1")
