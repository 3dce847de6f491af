"""Embeddings of batches become logged metrics; only those of a test are kept."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from tireid.callbacks.retrieval_evaluation import RetrievalEvaluation, embeddings_of
from tireid.retrieval import evaluate_embeddings
from tireid.structures import ImageBatch, TextBatch


class Embedded(L.LightningModule):
    """Returns the embeddings of a split by the indices of a batch."""

    def __init__(self, split):
        super().__init__()
        self.split = split

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        side = self.split.texts if isinstance(batch, TextBatch) else self.split.images
        return side[batch.index]

    validation_step = test_step


@pytest.fixture
def loaders(split):
    """Texts and images in batches of unequal sizes, in falling order."""

    def texts(index):
        index = torch.tensor(index)
        ids = torch.ones(len(index), 3, dtype=torch.int64)
        return TextBatch(ids, ids.bool(), split.text_pids[index], index, split.image_index[index])

    def images(index):
        index = torch.tensor(index)
        return ImageBatch(torch.zeros(len(index), 3, 2, 2), split.image_pids[index], index)

    return [
        DataLoader(range(len(rows))[::-1], batch_size=4, collate_fn=make)
        for rows, make in ((split.texts, texts), (split.images, images))
    ]


def expected(split):
    backward = evaluate_embeddings(split.images, split.texts, split.image_pids, split.text_pids)
    return evaluate_embeddings(*split[:4], paired=split.image_index) | {
        f"i2t_{name}": value for name, value in backward.items()
    }


def test_a_test_logs_both_directions_and_keeps_the_embeddings_in_order(
    split, loaders, small_trainer
):
    tester = small_trainer(RetrievalEvaluation())
    assert embeddings_of(tester) is None
    tester.test(Embedded(split), loaders, verbose=False)
    metrics = {name: float(value) for name, value in tester.callback_metrics.items()}
    assert metrics == pytest.approx(
        {f"test/{name}": value for name, value in expected(split).items()}
    )
    for kept, given in zip(embeddings_of(tester), split, strict=True):
        assert torch.equal(kept, given)


def test_a_validation_is_logged_under_its_split_and_keeps_nothing(split, loaders, small_trainer):
    callback = RetrievalEvaluation(block_size=2, validation_split="test")
    validator = small_trainer(callback)
    validator.validate(Embedded(split), loaders, verbose=False)
    assert float(validator.callback_metrics["test/R1"]) == pytest.approx(expected(split)["R1"])
    assert callback.embeddings is callback.metric.split is None


def test_what_an_interrupted_evaluation_collected_is_dropped(split, loaders, small_trainer):
    callback = RetrievalEvaluation()
    callback.metric.update(-split.texts[:4], next(iter(loaders[0])))
    tester = small_trainer(callback)
    tester.test(Embedded(split), loaders, verbose=False)
    assert torch.equal(callback.embeddings.texts, split.texts)


def test_without_the_callback_there_are_no_embeddings(stub_trainer):
    assert embeddings_of(stub_trainer()) is None
