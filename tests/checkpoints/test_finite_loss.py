"""A loss that is not finite ends the run before a checkpoint or a validation sees its weights."""

import json
from types import SimpleNamespace
from unittest.mock import create_autospec

import lightning as L
import pytest
import torch

from tireid.checkpoints.finite_loss import FiniteLoss, NonFiniteLossError

RECORDS = [SimpleNamespace(image_path=f"images/{number}.png") for number in range(9)]


def stub_trainer(world_size=1, rank=0):
    trainer = create_autospec(L.Trainer, instance=True)
    trainer.configure_mock(
        world_size=world_size, current_epoch=2, global_step=7, is_global_zero=rank == 0
    )
    trainer.datamodule = SimpleNamespace(records=lambda split: RECORDS)
    return trainer


def take_step(callback, trainer, terms, images=(3, 1)):
    model = create_autospec(L.LightningModule, instance=True)
    model.latest_terms = terms
    batch = SimpleNamespace(index=torch.tensor([4, 5]), image_id=torch.tensor(images))
    callback.on_train_batch_end(trainer, model, None, batch, 0)
    return model


@pytest.mark.parametrize(
    "hook", ["on_train_batch_end", "on_save_checkpoint", "on_validation_start", "on_train_end"]
)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_next_hook_stops_the_run_and_names_term_and_batch(tmp_path, hook, bad):
    callback, trainer = FiniteLoss(str(tmp_path)), stub_trainer()
    model = take_step(callback, trainer, {"id": torch.tensor(bad), "rank": torch.tensor(1.0)})
    more = {"on_train_batch_end": (None, None, 1), "on_save_checkpoint": ({},)}.get(hook, ())
    match = rf"step 7 \(epoch 3\): expected a finite loss, got id={bad}; its batch is in "
    with pytest.raises(NonFiniteLossError, match=match):
        getattr(callback, hook)(trainer, model, *more)
    assert json.loads((tmp_path / "nonfinite_step7.json").read_text()) == {
        "epoch": 3,
        "step": 7,
        "terms": {"id": str(bad), "rank": "1.0"},
        "pairs": [4, 5],
        "image_files": ["images/3.png", "images/1.png"],
    }


def test_finite_terms_and_models_without_terms_pass(tmp_path):
    callback, trainer = FiniteLoss(str(tmp_path)), stub_trainer()
    for terms in ({"id": torch.tensor(1.0)}, {}, {"id": torch.tensor(2.0)}):
        model = take_step(callback, trainer, terms)
    callback.on_train_end(trainer, model)
    callback.on_train_end(trainer, model)
    assert list(tmp_path.iterdir()) == []


def nan_on_rank_one(rank, folder):
    callback, trainer = FiniteLoss(folder), stub_trainer(world_size=2, rank=rank)
    model = take_step(
        callback, trainer, {"id": torch.tensor([1.0, float("nan")][rank])}, images=(rank, 2)
    )
    try:
        callback.on_train_end(trainer, model)
    except NonFiniteLossError:
        return 1
    return 0


@pytest.mark.slow
@pytest.mark.ddp
def test_a_nan_on_one_rank_stops_all_and_the_whole_batch_is_named(tmp_path, on_two_ranks):
    assert on_two_ranks(nan_on_rank_one, str(tmp_path)) == [1, 1]
    content = json.loads((tmp_path / "nonfinite_step7.json").read_text())
    assert content["pairs"] == [4, 5, 4, 5]
    assert content["image_files"] == [f"images/{number}.png" for number in (0, 2, 1, 2)]
