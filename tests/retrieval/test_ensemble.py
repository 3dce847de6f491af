"""The similarities of an ensemble are the weighted means of those of its models."""

import pytest
import torch
from torch.nn import functional as F

from tireid.retrieval import evaluate_embeddings
from tireid.retrieval.collection import SplitEmbeddings
from tireid.retrieval.ensemble import ensemble


def embedded(width, seed, texts=12, images=8):
    generator = torch.Generator().manual_seed(seed)
    sides = [torch.randn(count, width, generator=generator) for count in (texts, images)]
    pids = torch.arange(texts) % 4, torch.arange(images) % 4
    return SplitEmbeddings(
        *(F.normalize(s, dim=1) for s in sides), *pids, torch.zeros(texts).long()
    )


@pytest.mark.parametrize("weights", [None, [1, 3], [0.2, 0.2]])
def test_similarities_within_and_across_the_sides_are_weighted_means(weights):
    models = [embedded(5, 0), embedded(7, 1)]
    joined = ensemble(models, weights)
    share = 0.5 if weights is None else weights[0] / sum(weights)
    for one, other in (("texts", "images"), ("images", "images")):
        parts = [getattr(m, one).double() @ getattr(m, other).double().T for m in models]
        expected = share * parts[0] + (1 - share) * parts[1]
        found = getattr(joined, one) @ getattr(joined, other).T
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert joined.text_pids is models[0].text_pids


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_model_with_itself_has_its_own_metrics(count):
    model = embedded(6, 2, texts=60, images=40)
    joined = ensemble([model] * count)
    assert evaluate_embeddings(*joined[:4]) == evaluate_embeddings(*model[:4])


@pytest.mark.parametrize(
    "weights", [[1], [1, 0], [1, -1], [1, float("nan")], [1, float("inf")], [1, "a"]]
)
def test_weights_are_checked(weights):
    with pytest.raises(ValueError, match="ensemble_weights: expected 2 numbers above 0"):
        ensemble([embedded(5, 0)] * 2, weights)


def test_models_of_other_splits_are_refused():
    with pytest.raises(ValueError, match="expected runs on the same captions and images"):
        ensemble([embedded(5, 0), embedded(5, 0, images=9)])
