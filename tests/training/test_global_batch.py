"""One step of every method is the same on any number of processes that share its batch."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from tireid.files import conf_dir
from tireid.inference.build import build_datamodule, build_encoders, build_model
from tireid.methods.lcr2s.targets import TargetTable
from tireid.training.batch_norm_sync import BatchNormSync

SMALL = [
    "trainer=cpu",
    "batch_size=8",
    "dataset.read.num_train_ids=8",
    "dataset.read.num_val_ids=3",
    "dataset.read.num_test_ids=4",
    "dataset.read.images_per_id=3",
    "dataset.image_size=[48,16]",
    "dataset.sampler=identity_balanced",
    "dataset.pairs_per_id=2",
]
DEFAULT = ["text_encoder.module.dropout=0.0"]
TRANSFORMERS = [
    "image_encoder=vit_tiny",
    "text_encoder=bert_bilstm_tiny",
    "text_encoder.module.embedding.dropout=0.0",
]
CONVOLUTIONS = ["text_encoder=textcnn_tiny", "text_encoder.module.dropout=0.0"]
CLIP = ["image_encoder=clip_tiny", "text_encoder=clip_text_tiny"]
SUPPORTS = "model.teacher.supports"
ENCODED = "model.teacher.source=dataset"  # support sets come with the batch
# Settings, and what is trained: the model, LCR2S's teacher, or its student by teacher or table.
CASES = {
    "baseline": (["model=baseline", *DEFAULT], "model"),
    "baseline, sampled identities": (
        ["model=baseline", *DEFAULT, "model.identity=sampled", "model.identity_share=1.0"],
        "model",
    ),
    "baseline, ViT": (["model=baseline", *TRANSFORMERS], "model"),
    "baseline, TextCNN": (["model=baseline", *CONVOLUTIONS], "model"),
    "lgur": (["model=lgur", *DEFAULT], "model"),
    "lgur, ViT": (["model=lgur", *TRANSFORMERS], "model"),
    "irra": (["model=irra", *DEFAULT], "model"),
    "irra, CLIP": (
        ["model=irra_official", "image_encoder=clip_tiny", "text_encoder=clip_text_tiny"],
        "model",
    ),
    "rde": (["model=rde", *DEFAULT], "model"),
    "rde, CLIP": (["model=rde", *CLIP, "model.norm=batch"], "model"),
    "teacher": (["model=lcr2s", *DEFAULT, ENCODED], "teacher"),
    "teacher, many supports": (
        [
            "model=lcr2s",
            *CONVOLUTIONS,
            ENCODED,
            "dataset.pairs_per_id=4",
            f"{SUPPORTS}.num_images=5",
        ],
        "teacher",
    ),
    "teacher, no supports": (
        ["model=lcr2s", *DEFAULT, ENCODED, f"{SUPPORTS}.num_texts=0"],
        "teacher",
    ),
    "teacher, ViT": (["model=lcr2s", *TRANSFORMERS, ENCODED], "teacher"),
    "teacher of the batch": (
        ["model=lcr2s", *DEFAULT, "model.teacher.source=batch"],
        "teacher",
    ),
    "teacher with a memory": (
        ["model=lcr2s", *DEFAULT, "model.teacher.source=memory"],
        "teacher",
    ),
    "student": (["model=lcr2s", *DEFAULT, ENCODED], "student"),
    "student, ViT": (["model=lcr2s", *TRANSFORMERS, ENCODED], "student"),
    "student by a table": (["model=lcr2s_plain", *DEFAULT], "table"),
    "student with its teacher": (["model=lcr2s", *DEFAULT, "model.joint=true"], "model"),
}


# Float32 has kinks: a maximum or a ReLU that rounding turns makes its gradient jump, by more the
# larger the pictures are. So the forward pass must not round otherwise on another process.
SINGLE = ("baseline", "lgur", "irra", "teacher", "student")
PICTURES = ["dataset.image_size=[96,32]"]


def built(cfg, kind, num_train_pids, num_records):
    torch.manual_seed(1)
    encoders = build_encoders(cfg)
    if kind == "model":
        return build_model(cfg, encoders, num_train_pids)
    teacher = instantiate(cfg.model.teacher, _convert_="all")(
        num_train_pids=num_train_pids, **encoders
    )
    if kind == "teacher":
        return teacher
    model = build_model(cfg, build_encoders(cfg), num_train_pids)
    if kind == "table":
        generator = torch.Generator().manual_seed(2)
        images, texts = (
            torch.randn(n, model.feature_dim, generator=generator) for n in num_records
        )
        teacher = TargetTable(images, texts)
    model.set_teacher(teacher)
    return model


def _in_precision(batch, dtype):
    support = batch.support
    if support is not None:
        support = support._replace(images=support.images.to(dtype))
    return batch._replace(images=batch.images.to(dtype), support=support)


def data_of(cfg, kind, rank, world_size):
    datamodule = build_datamodule(cfg)
    datamodule.trainer = SimpleNamespace(
        world_size=world_size, global_rank=rank, num_devices=world_size
    )
    datamodule.support_batches = datamodule.supports is not None and kind != "table"
    datamodule.setup("fit")
    return datamodule


def second_step(cfg, kind, rank, world_size, dtype):
    """Return loss and gradient of the second step of a run, as DDP makes them, and the buffers."""
    datamodule = data_of(cfg, kind, rank, world_size)
    records = datamodule.records("train")
    counts = (len(records), sum(len(record.captions) for record in records))
    model = built(cfg, kind, datamodule.num_train_pids, counts).to(dtype).train()
    if world_size > 1:
        BatchNormSync().apply(model)
    loss = torch.zeros(())
    for step, batch in zip(range(2), datamodule.train_dataloader(), strict=False):
        model.zero_grad()
        terms = model.training_terms(_in_precision(batch, dtype), step).terms
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()
    loss = loss.detach()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if p.grad is None] == []  # or DDP waits for them
    gradient = torch.cat([p.grad.flatten() for p in trained.values()])
    buffers = torch.cat([torch.zeros(1), *(b.flatten().double() for b in model.buffers())])
    if world_size > 1:
        for value in (gradient, loss):
            dist.all_reduce(value)
            value /= world_size
    return float(loss), gradient.numpy(), buffers.numpy()


@pytest.fixture(scope="module")
def configs(cache_dir):
    """Return the config of each case, by its name and whether it is in double precision."""
    double = {(name, True): [] for name in CASES}
    single = {(name, False): PICTURES for name in SINGLE}
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        return {
            (name, is_double): compose(
                "train", [*SMALL, f"paths.cache_dir={cache_dir}", *CASES[name][0], *added]
            )
            for (name, is_double), added in (double | single).items()
        }


def all_cases(rank, world_size, configs):
    torch.set_num_threads(1)
    found = {}
    for (name, is_double), cfg in configs.items():
        dtype = torch.float64 if is_double else torch.float32
        loss, gradient, buffers = second_step(cfg, CASES[name][1], rank, world_size, dtype)
        found[name, is_double] = (loss, gradient, buffers) if rank == 0 else (loss,)
    return found


@pytest.fixture(scope="module")
def on_one_process(configs):
    return all_cases(0, 1, configs)


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize("world_size", [2, pytest.param(4, marks=pytest.mark.long)])
def test_a_step_is_that_of_one_process(on_ranks, configs, on_one_process, world_size):
    ranks = on_ranks(world_size, all_cases, world_size, configs)
    for case, (loss, gradient, buffers) in on_one_process.items():
        _, is_double = case
        assert np.linalg.norm(gradient) > 0
        for rank in ranks:
            assert rank[case][0] == pytest.approx(loss, rel=1e-9 if is_double else 1e-6), case
        _, found, found_buffers = ranks[0][case]
        difference = np.linalg.norm(found - gradient) / np.linalg.norm(gradient)
        assert difference < (1e-7 if is_double else 1e-5), case
        close = {"rtol": 1e-6, "atol": 1e-7 if is_double else 1e-5, "err_msg": str(case)}
        np.testing.assert_allclose(found_buffers, buffers, **close)
