"""Similarities → ranks of the positives → R@k, mAP, mINP."""

from tireid.metrics.average_precision import average_precision, average_precision_trapezoid
from tireid.metrics.inverse_negative_penalty import inverse_negative_penalty
from tireid.metrics.recall import recall_at_k
from tireid.metrics.retrieval import retrieval_metrics

__all__ = [
    "average_precision",
    "average_precision_trapezoid",
    "inverse_negative_penalty",
    "recall_at_k",
    "retrieval_metrics",
]
