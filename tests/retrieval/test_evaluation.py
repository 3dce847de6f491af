import math
import subprocess
import sys

import numpy as np
import pytest
import torch

import tireid.retrieval.evaluation
from tireid.metrics import retrieval_metrics
from tireid.metrics.identities import as_tensor
from tireid.retrieval import embedding_values, evaluate_embeddings
from tireid.retrieval.ranking import ranked_blocks

PIDS = torch.tensor([3, 1, 2, 3, 1, 2, 3, 8])


def split(queries: int = 90, gallery: int = 61, dim: int = 32, ids: int = 9):
    """Noisy texts of random images, some images and texts twice."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(gallery, dim, generator=generator)
    image[gallery // 2 :: 3] = image[0]
    image_pids = torch.randint(ids, (gallery,), generator=generator)
    paired = torch.randint(gallery, (queries,), generator=generator)
    text = image[paired] + 2 * torch.randn(queries, dim, generator=generator)
    return text, image, image_pids[paired], image_pids, paired


def test_equals_the_metrics_of_the_whole_matrix():
    text, image, text_pids, image_pids, paired = split()
    unit = torch.nn.functional.normalize
    similarity = unit(text.double(), dim=-1) @ unit(image.double(), dim=-1).mT
    # Undo what rounding did to the ties between equal images.
    similarity[:, len(image) // 2 :: 3] = similarity[:, :1]
    expected = retrieval_metrics(similarity, text_pids, image_pids, paired=paired)
    metrics = evaluate_embeddings(text, image, text_pids, image_pids, paired=paired)
    assert metrics == expected
    assert 5 < metrics["R1"] < 95


def test_arrays_of_numpy_are_taken_like_tensors():
    text, image, text_pids, image_pids, paired = split()
    expected = evaluate_embeddings(text, image, text_pids, image_pids, paired=paired)
    arrays = [value.numpy() for value in (text, image, text_pids, image_pids)]
    assert evaluate_embeddings(*arrays, paired=paired.numpy()) == expected


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array(["a"]), "expected pids as a tensor, got ndarray: "),
        (np.array([None]), "expected pids as a tensor, got ndarray: "),
        (None, "expected pids as a tensor, got NoneType: "),
        (np.array([1j]), "expected pids of real numbers, got torch.complex128"),
    ],
)
def test_what_is_no_number_is_refused(values, said):
    with pytest.raises(ValueError, match=said):
        as_tensor(values, "pids")


def test_every_block_size_gives_the_same_digits():
    text, image, text_pids, image_pids, paired = split()
    expected = evaluate_embeddings(text, image, text_pids, image_pids, paired=paired)
    for block_size in (1, 7, 64, 10_000):
        assert expected == evaluate_embeddings(
            text, image, text_pids, image_pids, paired=paired, block_size=block_size
        )


def test_permuting_either_side_changes_nothing():
    text, image, text_pids, image_pids, paired = split()
    expected = evaluate_embeddings(text, image, text_pids, image_pids, paired=paired)
    generator = torch.Generator().manual_seed(1)
    rows = torch.randperm(len(text), generator=generator)
    columns = torch.randperm(len(image), generator=generator)
    metrics = evaluate_embeddings(
        text[rows],
        image[columns],
        text_pids[rows],
        image_pids[columns],
        paired=columns.argsort()[paired[rows]],
    )
    assert metrics == pytest.approx(expected, rel=1e-13)  # the mean sums in another order


def test_a_collapsed_model_scores_the_worst():
    for dtype in (torch.float32, torch.bfloat16):
        text, image = (torch.full((rows, 512), 0.7, dtype=dtype) for rows in (3, 8))
        metrics = evaluate_embeddings(text, image, PIDS[:3], PIDS)
        # Identity 3 has three images behind five negatives, 1 and 2 have two behind six.
        three, two = (1 / 6 + 2 / 7 + 3 / 8) / 3, (1 / 7 + 2 / 8) / 2
        assert metrics["R1"] == metrics["R5"] == 0
        assert metrics["R10"] == 100
        assert metrics["mAP"] == pytest.approx(100 * (three + 2 * two) / 3)


def test_image_to_text_by_swapping_the_sides():
    text, image, text_pids, image_pids, _ = split(gallery=5, ids=5)
    unit = torch.nn.functional.normalize
    similarity = unit(image.double(), dim=-1) @ unit(text.double(), dim=-1).mT
    kept = torch.isin(image_pids, text_pids)
    expected = retrieval_metrics(similarity[kept], image_pids[kept], text_pids)
    assert evaluate_embeddings(image[kept], text, image_pids[kept], text_pids) == expected


def test_values_are_those_of_each_query():
    text, image, text_pids, image_pids, paired = split()
    text_pids[4], paired[4] = 99, -1
    values = embedding_values(text, image, text_pids, image_pids, paired=paired, block_size=11)
    assert all(math.isnan(value[4]) for value in values.values())
    for row in (0, 17, 89):
        alone = evaluate_embeddings(text[[row]], image, text_pids[[row]], image_pids)
        assert alone == {name: 100 * values[name][row].item() for name in alone}
    with pytest.warns(UserWarning, match="1 of 90 queries have no positive"):
        evaluate_embeddings(text, image, text_pids, image_pids)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_broken_embeddings_are_counted_by_side(value):
    text, image = torch.ones(5, 4), torch.ones(8, 4)
    text[1, 2] = text[1, 3] = text[4, 0] = value
    with pytest.raises(ValueError, match=r"^2 of 5 text embeddings contain NaN or Inf"):
        evaluate_embeddings(text, image, PIDS[:5], PIDS)
    image[0, 0] = value
    with pytest.raises(ValueError, match="2 of 5 text embeddings and 1 of 8 image embeddings"):
        evaluate_embeddings(text, image, PIDS[:5], PIDS)


def test_embeddings_of_zeros_have_no_rank():
    text, image = torch.ones(5, 4), torch.ones(8, 4)
    text[2], image[3] = 0, 1e-20
    with pytest.raises(
        ValueError,
        match=r"^1 of 5 text embeddings and 1 of 8 image embeddings contain nothing but zeros$",
    ):
        evaluate_embeddings(text, image, PIDS[:5], PIDS)
    text[2], image[3] = 1e-6, 1e30
    assert evaluate_embeddings(text, image, PIDS[:5], PIDS)["R1"] == 0.0  # all are alike


def test_sizes_must_fit():
    text, image = torch.ones(5, 4), torch.ones(8, 4)
    with pytest.raises(ValueError, match="one width, got 4 and 3"):
        evaluate_embeddings(text, image[:, :3], PIDS[:5], PIDS)
    with pytest.raises(ValueError, match=r"query_pids of shape \(5,\), got \(4,\)"):
        evaluate_embeddings(text, image, PIDS[:4], PIDS)
    with pytest.raises(ValueError, match=r"image embeddings of shape .* got \(0, 4\)"):
        evaluate_embeddings(text, image[:0], PIDS[:5], PIDS[:0])
    with pytest.raises(ValueError, match="block_size of at least 1, got 0"):
        evaluate_embeddings(text, image, PIDS[:5], PIDS, block_size=0)


MEASURE = """
import resource, torch
from tireid.retrieval import evaluate_embeddings
torch.set_num_threads(1)
def split(size):
    generator = torch.Generator().manual_seed(0)
    make = lambda: torch.nn.functional.normalize(torch.randn(size, 64, generator=generator), dim=-1)
    pids = torch.arange(size) % max(size // 20, 1)
    return make(), make(), pids, pids
evaluate_embeddings(*split(50))  # what importing and starting up costs
arguments = split(10_000)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
evaluate_embeddings(*arguments, paired=torch.arange(10_000))
print((peak() - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_peak_memory_is_far_below_the_matrix():
    # The float32 matrix of 10,000 x 10,000 takes 381 MiB, its argsort twice that.
    run = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 300


def test_alone_sharing_changes_nothing():
    *sides, paired = split()
    expected = embedding_values(*sides, paired=paired)
    for name, values in embedding_values(*sides, paired=paired, shared=True).items():
        assert torch.equal(values.nan_to_num(-1), expected[name].nan_to_num(-1))


def rank_on(rank, queries):
    *sides, paired = split(queries, gallery=9, dim=5, ids=4)
    shares = []

    def watched(texts, *rest):
        shares.append(len(texts))
        return ranked_blocks(texts, *rest)

    tireid.retrieval.evaluation.ranked_blocks = watched
    values = embedding_values(*sides, paired=paired, shared=True)
    sides[0][0] = torch.nan  # in the share of the first process
    with pytest.raises(ValueError, match=f"1 of {queries} text embeddings contain NaN or Inf"):
        embedding_values(*sides, shared=True)
    return {name: value.numpy() for name, value in values.items()}, shares


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize(("processes", "queries", "share"), [(2, 11, 6), (3, 2, 1)])
def test_processes_that_share_the_queries_all_get_the_bits_of_one(
    on_ranks, processes, queries, share
):
    *sides, paired = split(queries, gallery=9, dim=5, ids=4)
    expected = embedding_values(*sides, paired=paired)
    for values, shares in on_ranks(processes, rank_on, queries):
        assert shares == [share]
        assert list(values) == list(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(values[name], value.numpy())
