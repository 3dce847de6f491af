import math
import warnings

import numpy as np
import pytest
import torch

from tireid.metrics import retrieval_metrics
from tireid.metrics.names import METRICS

# Three captions, four images. Rankings (identity): query 0: b, a, a, c; query 1: b, a, c, a;
# query 2: a and c tied at the top, then b, a.
SIMILARITY = torch.tensor(
    [
        [0.6, 0.9, 0.5, -0.1],
        [0.4, 0.8, -0.3, 0.2],
        [0.7, 0.3, 0.1, 0.7],
    ]
)
A, B, C = 11, 5, 40
GALLERY = torch.tensor([A, B, A, C])
QUERIES = torch.tensor([A, B, C])


def reference(similarity, query_pids, gallery_pids, own=None):
    """The definitions, one query at a time, by sorting the gallery: at ties negatives first."""
    columns = {key: [] for key in ("R1", "R5", "R10", "mAP", "mAP_trapezoid", "mINP")}
    for q, row in enumerate(similarity):
        gallery = [g for g in range(len(row)) if own is None or g != own[q]]
        gallery.sort(key=lambda g: (-row[g], gallery_pids[g] == query_pids[q]))
        hits = [gallery_pids[g] == query_pids[q] for g in gallery]
        if not any(hits):
            continue
        found, plain, trapezoid, last = 0, [], [], 0
        for rank, hit in enumerate(hits, start=1):
            if hit:
                before = found / (rank - 1) if rank > 1 else 1.0
                found, last = found + 1, rank
                plain.append(found / rank)
                trapezoid.append((found / rank + before) / 2)
        for k in (1, 5, 10):
            columns[f"R{k}"].append(any(hits[:k]))
        columns["mAP"].append(np.mean(plain))
        columns["mAP_trapezoid"].append(np.mean(trapezoid))
        columns["mINP"].append(found / last)
    return {key: 100 * np.mean(column) for key, column in columns.items() if column}


def assert_equal(metrics, expected):
    """Compare the metrics that are expected; the table may hold more."""
    compared = {name: metrics[name] for name in expected}
    assert compared == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_hand_computed_case():
    metrics = retrieval_metrics(SIMILARITY, QUERIES, GALLERY)
    # Ranks: query 0 (A) 2 and 3; query 1 (B) 1; query 2 (C) 2, as the tied negative goes first.
    expected = {
        "R1": 100 * 1 / 3,
        "R5": 100,
        "R10": 100,
        "mAP": 100 * ((1 / 2 + 2 / 3) / 2 + 1 + 1 / 2) / 3,
        # Query 0: (1/2 + 0/1)/2 and (2/3 + 1/2)/2; query 1: 1; query 2: (1/2 + 0/1)/2.
        "mAP_trapezoid": 100 * ((1 / 4 + 7 / 12) / 2 + 1 + 1 / 4) / 3,
        "mINP": 100 * (2 / 3 + 1 + 1 / 2) / 3,
    }
    assert_equal(metrics, expected)
    assert list(metrics) == list(METRICS)


def test_hand_computed_case_without_matching_image():
    metrics = retrieval_metrics(SIMILARITY, QUERIES, GALLERY, paired=torch.tensor([0, 1, 3]))
    # Only query 0 has a second image: without image 0, image 2 stands at rank 2 behind B.
    assert metrics["R1_wm"] == 0
    assert metrics["R5_wm"] == metrics["R10_wm"] == 100
    assert metrics["mAP_trapezoid_wm"] == pytest.approx(100 * (1 / 2 + 0) / 2)
    plain = retrieval_metrics(SIMILARITY, QUERIES, GALLERY)
    assert {key: metrics[key] for key in plain} == plain


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("seed", range(8))
def test_equals_the_definitions(seed, ties):
    rng = np.random.default_rng([seed, ties])
    for _ in range(30):
        queries, gallery, ids = rng.integers(1, 30), rng.integers(1, 40), rng.integers(1, 12)
        shape = (queries, gallery)
        similarity = rng.integers(-2, 3, shape) / 4.0 if ties else rng.standard_normal(shape)
        gallery_pids = rng.integers(-2, ids, gallery)
        own = rng.integers(0, gallery, queries)
        query_pids = gallery_pids[own]
        metrics = with_no_wm_warning(
            torch.from_numpy(similarity),
            torch.from_numpy(query_pids),
            torch.from_numpy(gallery_pids),
            torch.from_numpy(own),
        )
        expected = reference(similarity, query_pids, gallery_pids)
        without = reference(similarity, query_pids, gallery_pids, own)
        for key in ("R1", "R5", "R10", "mAP_trapezoid"):
            expected[f"{key}_wm"] = without.get(key, math.nan)
        assert_equal(metrics, expected)


def with_no_wm_warning(similarity, query_pids, gallery_pids, own):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no query has a positive beside its own image")
        return retrieval_metrics(similarity, query_pids, gallery_pids, paired=own)


def test_more_rows_than_a_block():
    rng = np.random.default_rng(0)
    similarity = rng.integers(0, 40, (300, 25)) / 40
    gallery_pids, query_pids = np.arange(25) % 9, np.arange(300) % 9
    metrics = retrieval_metrics(
        torch.from_numpy(similarity), torch.from_numpy(query_pids), torch.from_numpy(gallery_pids)
    )
    assert_equal(metrics, reference(similarity, query_pids, gallery_pids))


def test_permuting_the_gallery_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    similarity = torch.randint(0, 6, (20, 30), generator=generator) / 6  # full of ties
    query_pids, gallery_pids = torch.arange(20) % 7, torch.arange(30) % 7
    own = query_pids + 7
    order = torch.randperm(30, generator=generator)
    metrics = retrieval_metrics(similarity, query_pids, gallery_pids, paired=own)
    assert metrics == retrieval_metrics(
        similarity[:, order], query_pids, gallery_pids[order], paired=order.argsort()[own]
    )


def test_a_collapsed_model_scores_the_worst():
    metrics = retrieval_metrics(torch.full((2, 5), 0.3), QUERIES[:2], torch.tensor([A, A, B, C, C]))
    # A's two images come after three negatives, B's one after four.
    expected = 100 * ((1 / 4 + 2 / 5) / 2 + 1 / 5) / 2
    assert metrics["R1"] == 0
    assert metrics["mAP"] == pytest.approx(expected)


def test_queries_without_positive_are_left_out_and_counted():
    query_pids = torch.tensor([A, 99, C])
    with pytest.warns(UserWarning, match="1 of 3 queries have no positive"):
        metrics = retrieval_metrics(SIMILARITY, query_pids, GALLERY)
    assert metrics == retrieval_metrics(SIMILARITY[[0, 2]], QUERIES[[0, 2]], GALLERY)


def test_no_query_with_a_positive():
    with pytest.raises(ValueError, match="got none among 3"):
        retrieval_metrics(SIMILARITY, QUERIES + 100, GALLERY)


def test_no_query_left_without_its_own_image():
    with pytest.warns(UserWarning, match="beside its own image"):
        metrics = retrieval_metrics(torch.eye(3), QUERIES, QUERIES, paired=torch.arange(3))
    assert metrics["R1"] == 100
    assert math.isnan(metrics["R1_wm"])


def test_own_image_outside_the_gallery_takes_nothing_out():
    metrics = retrieval_metrics(SIMILARITY, QUERIES, GALLERY, paired=torch.tensor([-1, -1, -1]))
    assert metrics["R1_wm"] == metrics["R1"]
    assert metrics["mAP_trapezoid_wm"] == metrics["mAP_trapezoid"]


def test_gallery_smaller_than_k():
    metrics = retrieval_metrics(torch.tensor([[0.1, 0.9]]), QUERIES[:1], GALLERY[:2])
    assert (metrics["R1"], metrics["R5"], metrics["R10"]) == (0, 100, 100)


def test_float64_is_not_rounded_and_half_is_widened():
    close = torch.tensor([[1.0, 1.0 - 1e-12]], dtype=torch.float64)
    assert retrieval_metrics(close, QUERIES[:1], GALLERY[:2])["R1"] == 100
    half = retrieval_metrics(SIMILARITY.bfloat16(), QUERIES, GALLERY)
    assert half == retrieval_metrics(SIMILARITY.bfloat16().float(), QUERIES, GALLERY)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_broken_similarities_are_counted(value):
    similarity = SIMILARITY.clone()
    similarity[1, 2] = similarity[2, 2] = value
    with pytest.raises(ValueError, match="2 of 3 query rows and 1 of 4 gallery columns"):
        retrieval_metrics(similarity, QUERIES, GALLERY)


def test_sizes_must_fit():
    with pytest.raises(ValueError, match=r"query_pids of shape \(3,\), got \(2,\)"):
        retrieval_metrics(SIMILARITY, QUERIES[:2], GALLERY)
    with pytest.raises(ValueError, match=r"gallery_pids of shape \(4,\), got \(3,\)"):
        retrieval_metrics(SIMILARITY, QUERIES, GALLERY[:3])
    with pytest.raises(ValueError, match=r"paired of shape \(3,\), got \(1,\)"):
        retrieval_metrics(SIMILARITY, QUERIES, GALLERY, paired=torch.tensor([0]))
    with pytest.raises(ValueError, match="got 3 and 0"):
        retrieval_metrics(SIMILARITY[:, :0], QUERIES, GALLERY[:0])


def test_paired_must_point_at_the_same_identity():
    with pytest.raises(ValueError, match=r"0 \.\. 3.* got 2 others, the first being 4"):
        retrieval_metrics(SIMILARITY, QUERIES, GALLERY, paired=torch.tensor([0, 4, -2]))
    with pytest.raises(ValueError, match="got 1 of 3 pairs with two"):
        retrieval_metrics(SIMILARITY, QUERIES, GALLERY, paired=torch.tensor([0, 2, 3]))


@pytest.mark.usefixtures("unchecked")
def test_arrays_and_lists_do_too():
    metrics = retrieval_metrics(SIMILARITY.numpy(), QUERIES.numpy(), GALLERY.tolist())  # type: ignore[arg-type]
    assert metrics == retrieval_metrics(SIMILARITY, QUERIES, GALLERY)
    with pytest.raises(ValueError, match=r"query_pids to hold integers, got torch\.float32"):
        retrieval_metrics(SIMILARITY, QUERIES.float(), GALLERY)
    with pytest.raises(ValueError, match=r"two axes, got shape \(4,\)"):
        retrieval_metrics(SIMILARITY[0], QUERIES, GALLERY)
