"""A small split with its images, a stand-in for a trainer, and a model of two weights."""

from unittest.mock import Mock

import lightning as L
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from tireid.callbacks.retrieval_evaluation import RetrievalEvaluation
from tireid.console import silence_expected_warnings
from tireid.data.records import Record
from tireid.retrieval.collection import SplitEmbeddings

IMAGES, CAPTIONS = 6, 2  # captions per image; images 0 and 1 show identity 0, 2 and 3 identity 1


@pytest.fixture
def split():
    """Embeddings of captions that are close to their images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(IMAGES, 8, generator=generator), dim=1)
    image_index = torch.arange(IMAGES).repeat_interleave(CAPTIONS)
    noise = 0.3 * torch.randn(len(image_index), 8, generator=generator)
    texts = torch.nn.functional.normalize(images[image_index] + noise, dim=1)
    pids = torch.arange(IMAGES) // 2
    return SplitEmbeddings(texts, images, pids[image_index], pids, image_index)


@pytest.fixture
def records(tmp_path):
    """The records of that split, with images that differ in colour."""
    folder = tmp_path / "images"
    folder.mkdir()
    made = []
    for number in range(IMAGES):
        path = folder / f"{number}.png"
        Image.new("RGB", (8, 16), (40 * number, 0, 0)).save(path)
        captions = tuple(f"caption {n} of image {number}" for n in range(CAPTIONS))
        made.append(Record(path, number // 2, captions, number))
    return made


@pytest.fixture
def stub_trainer(records):
    """Return a function from callbacks and attributes to a stand-in for a trainer."""

    def made(*callbacks, **attributes):
        datamodule = Mock(fingerprints=lambda: {"test": "f00"}, records={"test": records}.get)
        datamodule.name = "synthetic"
        fields = {"callbacks": list(callbacks), "loggers": [], "is_global_zero": True}
        fields |= {"datamodule": datamodule, "ckpt_path": None, "callback_metrics": {}}
        fields |= {"world_size": 2, "precision": "32-true", "current_epoch": 0, "global_step": 7}
        fields |= {"max_epochs": 2, "estimated_stepping_batches": 6, "optimizers": []}
        return Mock(spec=L.Trainer, **(fields | attributes))

    return made


@pytest.fixture
def after_test(split, stub_trainer):
    """Return a function from callbacks and attributes to a trainer that has tested the split."""

    def made(*callbacks, embeddings=split, **attributes):
        evaluation = RetrievalEvaluation()
        evaluation.embeddings = embeddings
        return stub_trainer(evaluation, *callbacks, **attributes)

    return made


class Model(L.LightningModule):
    """Two weights, each in a group of its own, whose rates fall by half each step."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))
        self.bias = torch.nn.Parameter(torch.tensor(0.0))

    def training_step(self, batch, batch_idx):
        loss = (self.weight * batch).square().mean() + self.bias.square()
        self.log("train/loss", loss, on_step=True, on_epoch=False)
        return loss

    def configure_optimizers(self):
        groups = [
            {"params": [self.weight], "lr": 0.1, "name": "encoder"},
            {"params": [self.bias], "lr": 0.01, "name": "head"},
        ]
        optimizer = torch.optim.SGD(groups)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def small_trainer(tmp_path):
    """Return a function from callbacks and options to a trainer that runs in no time."""

    def made(*callbacks, **options):
        silence_expected_warnings()
        return L.Trainer(
            callbacks=list(callbacks),
            max_epochs=2,
            accelerator="cpu",
            enable_checkpointing=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            **({"logger": False, "enable_progress_bar": False} | options),
        )

    return made


@pytest.fixture
def fit(small_trainer, model):
    """Return a function that trains the model, two epochs of three steps, with some callbacks."""

    def trained(*callbacks, **options):
        trainer = small_trainer(*callbacks, **options)
        trainer.fit(model, DataLoader(torch.ones(6), batch_size=2))
        return trainer

    return trained
