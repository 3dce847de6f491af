"""Which queries are shown, and in what frame."""

import numpy as np
import pytest

from tireid.callbacks.query_images import (
    interesting_queries,
    similarity_plot,
)
from tireid.retrieval.query_results import QueryResults


@pytest.fixture
def results():
    """Six queries: hits 0, 2, 4 (2 has all its images first, 4 a wider margin than 0), misses."""
    right = np.array([[1, 0, 0], [0, 0, 1], [1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=bool)
    scores = np.array(
        [
            [0.50, 0.49, 0.1],
            [0.9, 0.8, 0.7],
            [0.6, 0.5, 0.4],
            [0.3, 0.2, 0.1],
            [0.50, 0.10, 0.0],
            [0.4, 0.3, 0.2],
        ],
        dtype=np.float32,
    )
    counts = np.zeros(200, dtype=np.int64)
    counts[150:160] = 3
    return QueryResults(
        values={"mAP": np.array([0.7, 0.3, 1.0, 0.5, 0.7, np.nan], dtype=np.float32)},
        first_rank=np.array([1, 9, 1, 2, 1, 0], dtype=np.int32),
        pids=np.arange(6),
        own=np.arange(6),
        found=np.zeros((6, 3), dtype=np.int32),
        scores=scores,
        right=right,
        edges=np.linspace(-1.0, 1.0, 201),
        positives=counts,
        negatives=np.zeros(200, dtype=np.int64),
    )


def of_kind(shown, kind):
    return [query.number for query in shown if query.kind == kind]


def test_hits_and_misses_come_in_order_and_a_query_without_an_image_is_neither(results):
    shown = interesting_queries(results, 8)
    assert of_kind(shown, "best hit") == [2, 4, 0]
    assert of_kind(shown, "worst miss") == [1, 3]
    assert sorted(of_kind(shown, "at random")) == [0, 1, 2, 3, 4, 5]


def test_no_more_of_a_kind_than_asked_for_and_the_same_draw_each_time(results):
    shown = interesting_queries(results, 2)
    assert of_kind(shown, "best hit") == [2, 4]
    assert of_kind(shown, "worst miss") == [1, 3]
    assert shown == interesting_queries(results, 2)
    assert len(of_kind(shown, "at random")) == 2


def test_similarities_are_drawn_also_where_there_are_none_of_a_kind(results):
    image = similarity_plot(results)
    assert image.mode == "RGB"
    assert min(image.size) > 200
    assert len(image.getcolors(2**24)) > 20
