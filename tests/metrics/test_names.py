"""The table of metrics: a line in it is computed, and names what the rest reads."""

from functools import partial

import pytest
import torch

from tireid.metrics import recall_at_k, retrieval_metrics
from tireid.metrics.names import METRICS, Metric, compared, headlines, monitors


@pytest.fixture
def r20(monkeypatch):
    monkeypatch.setitem(METRICS, "R20", Metric("R20", "R@20", partial(recall_at_k, k=20)))


def test_todays_metrics_stay():
    assert {"R1", "R5", "R10", "mAP", "mAP_trapezoid", "mINP"} <= set(METRICS)
    assert headlines("val/") == {"val/R1": "R@1", "val/mAP": "mAP"}
    assert "mAP_trapezoid" not in compared()
    assert {"val/R1", "val/i2t_R1", "val/i2t_mINP"} <= set(monitors("val"))


def test_every_metric_is_found_by_its_own_key():
    assert [metric.key for metric in METRICS.values()] == list(METRICS)


def test_every_metric_is_one_for_a_perfect_ranking():
    ranks = torch.arange(1, 8)[None]
    assert {key: metric.of_ranks(ranks).tolist() for key, metric in METRICS.items()} == {
        key: [1.0] for key in METRICS
    }


@pytest.mark.usefixtures("r20")
def test_a_line_in_the_table_is_computed_with_and_without_the_matching_image():
    # 30 images: the query's own at rank 1, the other of its identity at rank 21 or 20 without it.
    similarity = torch.linspace(1, 0, 30)[None].repeat(2, 1)
    gallery = torch.arange(30) + 100
    gallery[[0, 20]] = 7
    gallery[[25]] = 8
    metrics = retrieval_metrics(
        similarity, torch.tensor([7, 8]), gallery, paired=torch.tensor([0, -1])
    )
    assert metrics["R20"] == 50
    assert metrics["R20_wm"] == 50
    assert metrics["R10_wm"] == 0


@pytest.mark.usefixtures("r20")
def test_a_line_in_the_table_is_named_for_comparisons_and_as_monitor():
    assert compared("test/")["test/R20"] == "R@20"
    assert {"val/R20", "val/i2t_R20"} <= set(monitors("val"))
    assert "R20" not in headlines()
