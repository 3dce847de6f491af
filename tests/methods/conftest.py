"""Small encoders and batches that need no files, and all commands for a checkpoint."""

import json
import sys
from functools import partial

import pytest
import torch
from PIL import Image
from torch import nn

from tireid.cli.main import main
from tireid.methods.schedules import warmup_cosine
from tireid.structures import PairBatch, SupportBatch, Tokens


class TinyImageEncoder(nn.Module):
    def __init__(self, out_dim: int = 12) -> None:
        super().__init__()
        self.out_dim = out_dim
        self.patch = nn.Conv2d(3, out_dim, 4, stride=4)

    def forward(self, images):
        local = self.patch(images).flatten(2).mT
        return Tokens(local.mean(1), local, torch.ones(local.shape[:2], dtype=torch.bool))


class NormedImageEncoder(TinyImageEncoder):
    """Has statistics that a training step changes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(self.out_dim)

    def forward(self, images):
        local = self.norm(self.patch(images)).flatten(2).mT
        return Tokens(local.mean(1), local, torch.ones(local.shape[:2], dtype=torch.bool))


class TinyTextEncoder(nn.Module):
    def __init__(self, out_dim: int = 8) -> None:
        super().__init__()
        self.out_dim = out_dim
        self.words = nn.Embedding(50, out_dim)

    def forward(self, token_ids, valid):
        local = self.words(token_ids) * valid[..., None]
        return Tokens(local.sum(1) / valid.sum(1, keepdim=True), local, valid)


@pytest.fixture
def base_arguments():
    torch.manual_seed(0)
    return {
        "image_encoder": TinyImageEncoder(),
        "text_encoder": TinyTextEncoder(),
        "optimizer": partial(torch.optim.Adam, betas=(0.9, 0.999)),
        "schedule": partial(warmup_cosine, warmup_fraction=0.1),
        "learning_rates": {
            "image_encoder": 1e-3,
            "text_encoder": 2e-3,
            "head": 3e-3,
            "classifier": 4e-3,
        },
        "num_train_pids": 5,
    }


@pytest.fixture
def pair_batch():
    generator = torch.Generator().manual_seed(1)
    valid = torch.arange(7)[None] < torch.tensor([7, 3, 5, 4, 7, 2])[:, None]
    labels = torch.tensor([0, 1, 1, 2, 3, 4])
    return PairBatch(
        images=torch.randn(6, 3, 16, 8, generator=generator),
        token_ids=torch.randint(1, 50, (6, 7), generator=generator) * valid,
        valid=valid,
        label=labels,
        pid=labels * 10,
        image_id=torch.arange(6),
        index=torch.arange(6),
    )


@pytest.fixture
def normed_arguments(base_arguments):
    return base_arguments | {"image_encoder": NormedImageEncoder()}


@pytest.fixture
def family_batch():
    """Identity 0 in three images, one with two captions; 1 in two; 2 and 3 in one, 3 twice.

    Its support sets hold what other views there are and some besides, and empty slots.
    """
    generator = torch.Generator().manual_seed(1)
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 3, 3])
    count, others = len(labels), 5
    valid = torch.arange(7)[None] < torch.tensor([7, 3, 5, 4, 7, 2, 1, 6, 3])[:, None]
    other_valid = torch.arange(6)[None] < torch.tensor([6, 2, 4, 5, 3])[:, None]
    support = SupportBatch(
        images=torch.randn(others, 3, 16, 8, generator=generator),
        image_slots=torch.tensor(
            [[0, 1, 2], [2, -1, 0], [1, 1, -1], [-1, -1, 0], [3, 4, 4], [4, -1, -1]]
            + [[-1, -1, -1]] * 3
        ),
        token_ids=torch.randint(1, 50, (others, 6), generator=generator) * other_valid,
        valid=other_valid,
        text_slots=torch.tensor(
            [[1, 2], [0, -1], [2, 2], [-1, 1], [4, 3], [3, -1]] + [[-1, -1]] * 3
        ),
    )
    return PairBatch(
        images=torch.randn(count, 3, 16, 8, generator=generator),
        token_ids=torch.randint(1, 50, (count, 7), generator=generator) * valid,
        valid=valid,
        label=labels,
        pid=labels * 10,
        image_id=torch.tensor([10, 10, 11, 12, 13, 14, 15, 16, 16]),
        index=torch.arange(20, 29),
        support=support,
    )


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    """Return a function that runs `tireid` in `tmp_path` and in this process, and what it shows."""
    monkeypatch.chdir(tmp_path)
    for name in ("GOMP_SPINCOUNT", "KMP_BLOCKTIME"):  # the command sets them
        monkeypatch.setenv(name, "1")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["tireid", *map(str, words)])
        main()
        return capsys.readouterr().out

    return run


@pytest.fixture
def clip_words(clip_folder):
    """Return the number of words of the tokenizer that checkpoints are converted with."""
    return json.loads((clip_folder / "config.json").read_text())["text_config"]["vocab_size"]


@pytest.fixture
def take_through_all_commands(typed, small_config, clip_folder, cache_dir, tmp_path):
    """Return a function that does with an official checkpoint, `best.pth`, all that users do."""
    from tireid.training.run import train

    def take(source, *settings):
        shown = typed("convert", "--from", source, "best.pth", "output=run", *settings,
                      f"tokenizer={clip_folder}", "dataset=cuhk_pedes")  # fmt: skip
        assert "Research only; ask the owners" in shown
        sizes = ("train_ids=8", "val_ids=3", "test_ids=4")
        people = ["dataset.read.images_per_id=2", *(f"dataset.read.num_{size}" for size in sizes)]
        shown = typed("evaluate", "run=run", "accelerator=cpu", "dataset=synthetic", *people,
                      f"paths.cache_dir={cache_dir}")  # fmt: skip
        assert "trained on cuhk_pedes" in shown

        typed("export", "run=run", "output=out")
        card = (tmp_path / "out" / "README.md").read_text()
        assert f"converted from `best.pth` of the official {source.upper()} code" in card
        assert "| terms of the data | Research only; ask the owners" in card

        for number in range(3):
            (tmp_path / "images").mkdir(exist_ok=True)
            Image.new("RGB", (16, 48), (80 * number, 90, 20)).save(f"images/{number}.png")
        for model in ("run", "out"):
            quiet = ("--workers", 0, "--device", "cpu")
            typed("index", "images", "--model", model, "--out", f"gallery_{model}", *quiet)
            found = json.loads(typed("search", "red", "--in", f"gallery_{model}", "--json"))
            assert len(found[0]["results"]) == 3

        towers = ["image_encoder=clip_vit_b16", "text_encoder=clip_text", "init_weights=run"]
        towers += ["image_encoder.interpolation=bilinear", "image_encoder.pretrained=false"]
        towers += ["text_encoder.pretrained=false", "max_epochs=1"]
        assert 0 < train(small_config(tmp_path / "tuned", *towers, *settings))["test/mAP"] <= 100

    return take
