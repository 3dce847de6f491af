import pytest
import torch

from tireid.retrieval import evaluate_embeddings
from tireid.retrieval.collection import RetrievalMetrics
from tireid.structures import ImageBatch, TextBatch

TEXTS, IMAGES = 13, 7
TEXT_IMAGE = torch.arange(TEXTS) % IMAGES
IMAGE_PIDS = torch.tensor([30, 10, 20, 10, 30, 20, 10])


def embeddings(rows: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))


def text_batch(index: torch.Tensor) -> TextBatch:
    image_index = TEXT_IMAGE[index]
    ones = torch.ones(len(index), 4, dtype=torch.int64)
    return TextBatch(ones, ones.bool(), IMAGE_PIDS[image_index], index, image_index)


def image_batch(index: torch.Tensor) -> ImageBatch:
    return ImageBatch(torch.zeros(len(index), 3, 2, 2), IMAGE_PIDS[index], index)


def collect(metric: RetrievalMetrics, rank: int = 0, world_size: int = 1) -> RetrievalMetrics:
    """Feed one rank's share, dealt and padded as `DistributedSampler` does."""
    for rows, make, seed in ((TEXTS, text_batch, 0), (IMAGES, image_batch, 1)):
        padded = torch.arange(-(-rows // world_size) * world_size) % rows
        for index in padded[rank::world_size].split(3):
            metric.update(embeddings(rows, seed)[index], make(index))
    return metric


def compute_on(rank: int, compute_on_cpu: bool) -> tuple[int, dict[str, float]]:
    metric = collect(RetrievalMetrics(compute_on_cpu=compute_on_cpu), rank, 2)
    return sum(map(len, metric.text_index)), metric.compute()


def expected() -> dict[str, float]:
    texts, images, text_pids = embeddings(TEXTS, 0), embeddings(IMAGES, 1), IMAGE_PIDS[TEXT_IMAGE]
    backward = evaluate_embeddings(images, texts, IMAGE_PIDS, text_pids)
    return evaluate_embeddings(texts, images, text_pids, IMAGE_PIDS, paired=TEXT_IMAGE) | {
        f"i2t_{name}": value for name, value in backward.items()
    }


def test_one_process():
    assert collect(RetrievalMetrics()).compute() == expected()


@pytest.mark.ddp
@pytest.mark.slow
def test_two_ranks_count_every_sample_once(on_two_ranks):
    for collected, metrics in on_two_ranks(compute_on, True):
        assert collected == 7  # 13 texts arrive as 14
        assert metrics == expected()


def test_order_and_repetition_of_batches_do_not_matter():
    metric = RetrievalMetrics()
    for index in (torch.tensor([6, 2, 0, 2]), torch.tensor([1, 3, 5, 4, 6])):
        metric.update(embeddings(IMAGES, 1)[index], image_batch(index))
    for index in torch.arange(TEXTS).flip(0).split(4):
        metric.update(embeddings(TEXTS, 0)[index], text_batch(index))
    assert metric.compute() == expected()


def test_a_part_of_the_gallery():
    # As in a sanity check of a few batches: most own images are missing.
    kept = torch.tensor([1, 2, 4])
    metric = RetrievalMetrics()
    metric.update(embeddings(IMAGES, 1)[kept], image_batch(kept))
    metric.update(embeddings(TEXTS, 0), text_batch(torch.arange(TEXTS)))
    metric.compute()
    assert metric.split.image_index.tolist() == [-1, 0, 1, -1, 2, -1, -1, -1, 0, 1, -1, 2, -1]
    assert torch.equal(metric.split.images, embeddings(IMAGES, 1)[kept])


def test_reset_forgets():
    metric = collect(RetrievalMetrics())
    metric.reset()
    collect(metric)
    assert metric.compute() == expected()
    assert sum(map(len, metric.text_index)) == TEXTS


def test_a_side_is_missing():
    metric = RetrievalMetrics()
    metric.update(embeddings(3, 0), text_batch(torch.arange(3)))
    with pytest.raises(ValueError, match="at least one image batch"):
        metric.compute()
