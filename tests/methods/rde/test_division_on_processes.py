"""The division of an epoch is the same on any number of processes, and by hand."""

from types import SimpleNamespace
from unittest.mock import Mock

import lightning as L
import pytest
import torch
from hydra import compose, initialize_config_dir

from tireid.files import conf_dir
from tireid.inference.build import build_datamodule, build_encoders, build_model
from tireid.methods.rde.division import DivisionSettings, divide
from tireid.training.lightning_module import LightningMethod

SMALL = [
    "model=rde",
    "image_encoder=clip_tiny",
    "text_encoder=clip_text_tiny",
    "trainer=cpu",
    "batch_size=12",  # 40 pairs: the first of them fill up the last batch
    "dataset.read.num_train_ids=10",
    "dataset.read.num_val_ids=3",
    "dataset.read.num_test_ids=4",
    "dataset.read.images_per_id=2",
    "dataset.image_size=[48,16]",
    "dataset.word_probability=0.2",
]


def divided(rank, world_size, cache_dir):
    """Return an epoch's division, in double precision, and the losses on one process."""
    torch.set_num_threads(1)
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        cfg = compose("train", [*SMALL, f"paths.cache_dir={cache_dir}"])
    data = build_datamodule(cfg)
    data.trainer = SimpleNamespace(world_size=world_size, global_rank=rank, num_devices=world_size)
    data.setup("fit")
    torch.manual_seed(1)
    model = build_model(cfg, build_encoders(cfg), data.num_train_pids).double()
    moved = SimpleNamespace(batch_to_device=lambda b: b._replace(images=b.images.double()))
    plugin = SimpleNamespace(forward_context=torch.enable_grad)
    module = LightningMethod(model)
    module._trainer = Mock(
        spec=L.Trainer,
        datamodule=data,
        strategy=moved,
        precision_plugin=plugin,
        num_training_batches=3,
        current_epoch=2,
    )
    before = torch.get_rng_state()
    module.on_train_epoch_start()
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    if world_size > 1:
        return model.trust.state()["kept"].numpy()
    found = torch.zeros(2, 40, dtype=torch.float32)
    with torch.no_grad():
        model.eval()
        for batch in data.training_pass(-3, augmented=True):
            losses = model.pair_losses(moved.batch_to_device(batch))
            found[:, batch.index] = torch.stack(losses).float()
    assert (found[0] > 0).all()
    expected = divide(tuple(found), DivisionSettings(), seed=1, epoch=2)
    assert torch.equal(model.trust.state()["kept"], expected)
    assert 0 < expected.sum() < 40
    return expected.numpy()


def test_all_pairs_are_reached_and_divided_by_their_losses(cache_dir):
    divided(0, 1, cache_dir)


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize("world_size", [2, pytest.param(4, marks=pytest.mark.long)])
def test_the_division_is_that_of_one_process(on_ranks, cache_dir, world_size):
    expected = divided(0, 1, cache_dir)
    for kept in on_ranks(world_size, divided, world_size, cache_dir):
        assert (kept == expected).all()
