"""Re-ranking equals its definition, and helps where neighbours tell more than the text."""

import numpy as np
import pytest
import torch

from tireid.retrieval.collection import SplitEmbeddings
from tireid.retrieval.evaluation import embedding_values
from tireid.retrieval.reranking import KReciprocal


def sides(texts=7, images=30, dim=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n, dim, generator=generator) for n in (texts, images))


def by_definition(texts, images, k1, k2, direct):
    """Return the new similarities from dense matrices, one pair at a time."""
    texts, images = (t.double() / t.double().norm(dim=1, keepdim=True) for t in (texts, images))
    among, across = (images @ images.T).numpy(), (texts @ images.T).numpy()
    count = len(images)

    def nearest(row, k):
        return [int(i) for i in np.argsort(-row, kind="stable")[:k]]

    def reciprocal(i, k):
        return {j for j in nearest(among[i], k + 1) if i in nearest(among[j], k + 1)}

    def expanded(members):
        result = set(members)
        for j in members:
            half = reciprocal(j, round(k1 / 2))
            if len(half & set(members)) > 2 / 3 * len(half):
                result |= half
        return result

    def encoded(members, row):
        vector = np.zeros(count)
        for j in members:
            vector[j] = np.exp(-(1 - row[j]))
        return vector / vector.sum()

    plain = [encoded(expanded(reciprocal(i, k1)), among[i]) for i in range(count)]
    gallery = [np.mean([plain[j] for j in nearest(among[i], k2)], axis=0) for i in range(count)]
    rows = []
    for row in across:
        own = encoded(expanded(nearest(row, k1)), row)
        own = np.mean([own, *(plain[j] for j in nearest(row, k2 - 1))], axis=0)
        shared = [np.minimum(own, g).sum() / np.maximum(own, g).sum() for g in gallery]
        scaled = (row - row.min()) / (row.max() - row.min())
        rows.append(direct * scaled + (1 - direct) * np.array(shared))
    return np.array(rows)


@pytest.mark.parametrize(
    ("k1", "k2", "weight"), [(6, 3, 0.3), (5, 1, 0.0), (4, 9, 0.6), (40, 6, 1)]
)
def test_similarities_are_those_of_the_definition_for_every_block_size(k1, k2, weight):
    settings = KReciprocal(k1, k2, weight)
    texts, images = sides()
    blocks = list(settings.similarities(texts, images, block_size=3))
    assert [rows for rows, _ in blocks] == [slice(0, 3), slice(3, 6), slice(6, 7)]
    found = torch.cat([similarity for _, similarity in blocks])
    np.testing.assert_allclose(found, by_definition(texts, images, k1, k2, weight), atol=1e-7)
    ((_, whole),) = settings.similarities(texts, images, block_size=100)
    assert torch.equal(found, whole)
    ((_, alone),) = settings.similarities(texts[:1], images)
    assert torch.equal(found[:1], alone)


def test_neighbours_bring_back_the_images_that_a_text_misses():
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(20, 24, generator=generator)
    pids = torch.arange(20).repeat_interleave(5)
    images = centres[pids] + 0.5 * torch.randn(100, 24, generator=generator)
    texts = centres + 1.4 * torch.randn(20, 24, generator=generator)
    split = SplitEmbeddings(texts, images, torch.arange(20), pids, torch.arange(20) * 5)
    plain = embedding_values(*split[:4], paired=split.image_index)
    values = KReciprocal(k1=5, k2=2).query_values(split, block_size=8)
    assert values.keys() == plain.keys()
    assert values["mAP"].mean() > plain["mAP"].mean() + 0.02
    only_direct = KReciprocal(k1=5, k2=2, direct_weight=1.0).query_values(split)
    assert torch.equal(only_direct["mAP"], plain["mAP"])


def test_equal_images_and_a_gallery_of_one_have_ranks():
    for images in (torch.ones(4, 3), torch.ones(1, 3)):
        ((_, similarity),) = KReciprocal().similarities(torch.eye(3), images)
        assert bool(similarity.isfinite().all())
        assert (similarity == similarity[:, :1]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k1": 0}, "k1: expected an integer >= 1, got 0"),
        ({"k2": -1}, "k2: expected an integer >= 1, got -1"),
        ({"direct_weight": 2}, r"direct_weight: expected a number in \[0, 1\], got 2"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        KReciprocal(**settings)
