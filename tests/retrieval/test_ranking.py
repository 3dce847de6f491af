"""Ranks from rounded products equal those of exact ones, however near similarities are."""

import numpy as np
import pytest
import torch

from tireid.metrics.ranks import join_ranks, rank_positives
from tireid.retrieval import Gallery, device_ranking, gallery, ranking, top_k
from tireid.retrieval.ranking import ranked_blocks
from tireid.retrieval.similarity import rounded_error, similarity_blocks, unit_vectors
from tireid.retrieval.top_k import sorted_best


def random(rows, dim, seed):
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def made(kind, dim=48):
    """Return texts, images and their identities; some images and texts are equal."""
    texts, images = random(70, dim, 0), random(333, dim, 1)
    text_pids = torch.randint(0, 9, (70,), generator=torch.Generator().manual_seed(2))
    image_pids = torch.arange(333) % 8  # identity 8 has no image
    if kind == "trained":
        centres = 2 * random(9, dim, 3)
        texts, images = texts + centres[text_pids], images + centres[image_pids]
    if kind == "near":  # float32 cannot tell them apart
        texts = texts[:1] + 1e-7 * texts
        images = images[:1] + 3e-8 * images.double()
    if kind == "collapsed":
        texts, images = torch.ones(70, dim), torch.ones(333, dim)
    images[200:240] = images[100]
    return texts, images, text_pids, image_pids


KINDS = ["random", "trained", "near", "collapsed"]


def exact_similarity(texts, images):
    return unit_vectors(texts) @ unit_vectors(images).mT


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block_size", [1, 16, 1000])
@pytest.mark.parametrize("chunk", [2**28, 12 * 48 * 100], ids=["whole", "chunks of 100"])
def test_ranks_are_those_of_exact_similarities(monkeypatch, kind, block_size, chunk):
    monkeypatch.setattr(gallery, "_CHUNK", chunk)
    texts, images, text_pids, image_pids = made(kind)
    expected = rank_positives(exact_similarity(texts, images), text_pids, image_pids)
    blocks = list(ranked_blocks(texts, images, text_pids, image_pids, block_size))
    assert [row for rows, _ in blocks for row in range(rows.start, rows.stop)] == list(range(70))
    ranked = join_ranks([block for _, block in blocks])
    assert torch.equal(ranked.ranks, expected.ranks)
    assert torch.equal(ranked.positives, expected.positives)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block_size", [7, 1000])
@pytest.mark.parametrize(
    ("chunk", "group"), [(2**29, 2**22), (8 * 48 * 100, 50 * 20)], ids=["whole", "chunks"]
)
def test_a_gpu_ranks_a_gallery_in_chunks_as_a_cpu_does(monkeypatch, kind, block_size, chunk, group):
    """On the CPU: nothing in it depends on the device."""
    monkeypatch.setattr(device_ranking, "_CHUNK", chunk)
    monkeypatch.setattr(device_ranking, "_RANKS", group)
    monkeypatch.setattr(device_ranking, "_PAIRS", 48 * 30)
    texts, images, text_pids, image_pids = made(kind)
    expected = rank_positives(exact_similarity(texts, images), text_pids, image_pids)
    sides = texts, images, text_pids, image_pids
    blocks = list(device_ranking.ranked_on_device(*sides, block_size))
    assert [row for rows, _ in blocks for row in range(rows.start, rows.stop)] == list(range(70))
    ranked = join_ranks([block for _, block in blocks])
    assert torch.equal(ranked.ranks, expected.ranks)
    assert torch.equal(ranked.positives, expected.positives)


@pytest.mark.parametrize("cost", [1e9, 1e-9], ids=["exact products", "open pairs"])
@pytest.mark.parametrize("kind", KINDS)
def test_both_ways_to_decide_what_rounding_leaves_open_agree(monkeypatch, kind, cost):
    monkeypatch.setattr(ranking, "_PAIR", cost)
    texts, images, text_pids, image_pids = made(kind)
    expected = rank_positives(exact_similarity(texts, images), text_pids, image_pids)
    (_, ranked), *_ = ranked_blocks(texts, images, text_pids, image_pids, 100)
    assert torch.equal(ranked.ranks, expected.ranks)


def test_ranks_kept_at_a_time_are_bounded(monkeypatch):
    texts, images, text_pids, image_pids = made("trained")
    expected = rank_positives(exact_similarity(texts, images), text_pids, image_pids)
    monkeypatch.setattr(ranking, "_RANKS", 9 * 43)  # some images of eight people
    blocks = list(ranked_blocks(texts, images, text_pids, image_pids, 4))
    assert len(blocks) == -(-70 // 9)
    assert torch.equal(join_ranks([block for _, block in blocks]).ranks, expected.ranks)


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_rounding_stays_within_its_bound(precision):
    """Whatever precision a caller allows for products."""
    previous = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        check_rounding()
    finally:
        torch.set_float32_matmul_precision(previous)


def check_rounding():
    for dim, scale in ((3, 1.0), (512, 1.0), (3072, 30.0)):
        texts, images = random(40, dim, 0), scale * random(50, dim, 1) + 1
        for block in Gallery(images).blocks(texts, 64):
            assert block.error == rounded_error(dim, 64)
            assert block.similarity.dtype == np.float32
            exact = block.exact().similarity
            assert np.abs(block.similarity - exact).max() < block.error
            (_, expected), *_ = similarity_blocks(texts, images, 64)
            assert np.array_equal(exact, expected.numpy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 7, 50, 400])
@pytest.mark.parametrize("chunk", [2**28, 12 * 48 * 100], ids=["whole", "chunks of 100"])
def test_the_best_are_those_of_exact_similarities(monkeypatch, kind, k, chunk):
    monkeypatch.setattr(gallery, "_CHUNK", chunk)
    texts, images, *_ = made(kind)
    scores, expected = sorted_best(exact_similarity(texts, images), k)
    for images_or_gallery in (images, Gallery(images, keep=True)):
        found = top_k(texts, images_or_gallery, k, block_size=16)
        assert torch.equal(found[0], scores.float())
        assert torch.equal(found[1], expected)


def test_a_gallery_that_is_kept_is_checked():
    with pytest.raises(ValueError, match="contain NaN or Inf"):
        Gallery(torch.full((3, 2), torch.nan), keep=True)
    with pytest.raises(ValueError, match="one width, got 3 and 2"):
        top_k(torch.ones(1, 3), Gallery(torch.ones(4, 2), keep=True), k=1)
