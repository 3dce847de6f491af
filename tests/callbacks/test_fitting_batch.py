"""Where a batch does not fit the memory, the largest part of it that does is told."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from tireid.callbacks.fitting_batch import FittingBatch
from tireid.methods.base import TrainingTerms
from tireid.structures import MaskedWords, PairBatch
from tireid.training.shortage import shortage


class Method(torch.nn.Module):
    """Has memory for so many pairs a step."""

    def __init__(self, room):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(4))
        self.room, self.asked = room, []

    def training_terms(self, batch, step):
        count = len(batch.pid)
        self.asked.append(count)
        assert batch.masked.rows.lt(count).all()
        if count > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        loss = (batch.images.mean() * self.weight).sum()
        features = torch.ones(count, 4)
        return TrainingTerms({"loss": loss}, features, features)


class Model(L.LightningModule):
    def __init__(self, room):
        super().__init__()
        self.method = Method(room)

    def training_step(self, batch, batch_idx):
        (loss,) = self.method.training_terms(batch, self.global_step).terms.values()
        self.log_dict({"loss": loss})
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


def batch(size=32):
    ids = torch.arange(size)
    words = torch.ones(size, 3, dtype=torch.long)
    masked = MaskedWords(words, ids, torch.zeros_like(ids), ids)
    images = torch.ones(size, 3, 4, 2)
    return PairBatch(images, words, words > 0, ids, ids, ids, ids, masked=masked)


@pytest.mark.parametrize(
    ("room", "told", "asked"),
    [(20, "batch_size=20 fits here; ", [16, 24, 20]), (3, "", [16, 8, 4])],
)
def test_the_largest_part_that_fits_is_in_the_message(small_trainer, room, told, asked):
    model = Model(room)
    with pytest.raises(torch.OutOfMemoryError) as raised:
        small_trainer(FittingBatch()).fit(model, DataLoader([batch()], batch_size=None))
    assert model.method.asked == [32, *asked]
    assert shortage(raised.value).startswith(f"out of memory; {told}set a smaller batch_size")
    assert model.method.weight.grad is None


def test_another_error_and_a_step_that_fits_try_nothing(small_trainer):
    model = Model(32)
    small_trainer(FittingBatch()).fit(model, DataLoader([batch()], batch_size=None))
    assert model.method.asked == [32, 32]  # two epochs
