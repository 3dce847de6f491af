import math

import pytest
import torch

from tireid.metrics import (
    average_precision,
    average_precision_trapezoid,
    inverse_negative_penalty,
    recall_at_k,
)

# Positives first and third; only the last of six; all of three; no positive at all.
RANKS = torch.tensor([[1, 3, 0], [6, 0, 0], [1, 2, 3], [0, 0, 0]])


def test_recall():
    assert recall_at_k(RANKS, 1)[:3].tolist() == [1, 0, 1]
    assert recall_at_k(RANKS, 5)[:3].tolist() == [1, 0, 1]
    assert recall_at_k(RANKS, 6)[:3].tolist() == [1, 1, 1]
    assert recall_at_k(RANKS, 1000)[:3].tolist() == [1, 1, 1]


def test_average_precision():
    # (1/1 + 2/3) / 2; 1/6; 1.
    expected = torch.tensor([5 / 6, 1 / 6, 1], dtype=torch.float64)
    torch.testing.assert_close(average_precision(RANKS)[:3], expected)


def test_average_precision_trapezoid():
    # Rank 1 counts 1, rank 3 (2/3 + 1/2) / 2; at rank 6 precision is 0 before and 1/6 after; 1.
    expected = torch.tensor([(1 + 7 / 12) / 2, 1 / 12, 1], dtype=torch.float64)
    torch.testing.assert_close(average_precision_trapezoid(RANKS)[:3], expected)


def test_inverse_negative_penalty():
    expected = torch.tensor([2 / 3, 1 / 6, 1], dtype=torch.float64)
    torch.testing.assert_close(inverse_negative_penalty(RANKS)[:3], expected)


FUNCTIONS = [
    lambda ranks: recall_at_k(ranks, 5),
    average_precision,
    average_precision_trapezoid,
    inverse_negative_penalty,
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_query_without_positive_is_undefined(function):
    assert math.isnan(function(RANKS)[3])
    assert function(torch.zeros(2, 0, dtype=torch.int64)).isnan().tolist() == [True, True]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_padding_does_not_reach_the_last_digit(function):
    generator = torch.Generator().manual_seed(0)
    ranks = torch.randint(1, 9, (50, 23), generator=generator).cumsum(1)
    for width in (1, 8, 400):
        padded = torch.nn.functional.pad(ranks, (0, width))
        assert torch.equal(function(padded), function(ranks))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_perfect_ranking_gives_one(function):
    assert function(torch.arange(1, 8)[None]).tolist() == [1.0]


def test_trapezoid_is_never_above_plain():
    generator = torch.Generator().manual_seed(1)
    ranks = torch.randint(1, 5, (200, 6), generator=generator).cumsum(1)
    assert (average_precision_trapezoid(ranks) <= average_precision(ranks) + 1e-15).all()


@pytest.mark.parametrize("k", [0, -1])
def test_k_must_be_positive(k):
    with pytest.raises(ValueError, match=f"at least 1, got {k}"):
        recall_at_k(RANKS, k)
