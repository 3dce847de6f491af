"""Counting what reaches a bound: each way gives what a look at all pairs gives."""

import numpy as np
import pytest

from tireid.retrieval import counting

WAYS = {
    "a sort": {"_FEW": 0},
    "bound by bound": {"_FEW": 10**9, "_BOUNDS": 100},
    "cells": {"_FEW": 10**9, "_BOUNDS": 0},
    "its own choice": {},
}


def falling(values):
    return -np.sort(-np.asarray(values))


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("error", [0, 1e-5, 0.05])
@pytest.mark.parametrize("bounds", [1, 3, 21])
def test_counts_and_open_pairs_are_those_of_all_pairs(monkeypatch, way, dtype, error, bounds):
    for name, value in way.items():
        monkeypatch.setattr(counting, name, value)
    random = np.random.default_rng(bounds)
    for spread, equal in ((0.04, 0), (1.0, 0), (0.04, bounds)):
        values = (spread * random.standard_normal(900)).astype(dtype)
        values[random.integers(0, 900, 9)] = -np.inf
        wanted = falling(random.choice(values[np.isfinite(values)], bounds))
        wanted[:equal] = wanted[0]
        low, high = wanted - dtype(error), wanted + dtype(error)
        counted = counting.count_reaching(values, low, high)
        assert np.array_equal(counted.certain, [(values >= bound).sum() for bound in high])
        found = sorted(zip(counted.columns.tolist(), counted.slots.tolist(), strict=True))
        expected = (values[:, None] >= low) & (values[:, None] < high)
        assert found == [tuple(pair) for pair in np.argwhere(expected).tolist()]


def test_nothing_reaches_a_bound_above_all_values():
    counted = counting.count_reaching(np.zeros(5), np.array([0.5]), np.array([0.6]))
    assert counted.certain.tolist() == [0]
    assert not len(counted.columns)
