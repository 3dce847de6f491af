"""On a CUDA device: runs, resumed runs, evaluation, losses and batch norms do what they should.

Skipped without one. Sizes are those of the other tests, so that all of it takes minutes.
"""

import csv
import importlib
import inspect
import json
import os
import pkgutil
import signal
import subprocess
import sys
import time
import warnings

import pytest
import torch
import torch.distributed as dist
from hydra.utils import instantiate
from torch import nn

import tireid
import tireid.losses
from tireid.data.transforms import Normalise
from tireid.encoders.batch_norm import replace_batch_norms
from tireid.encoders.textcnn import MaskedBatchNorm
from tireid.inference.build import build_encoders, build_model
from tireid.losses.draws import keyed_uniform
from tireid.losses.ranking import mine_semi_hard, ranking_loss
from tireid.methods.base import RetrievalModule
from tireid.methods.lcr2s.targets import TargetTable
from tireid.retrieval import device_ranking, evaluate_embeddings
from tireid.retrieval.top_k import top_k
from tireid.structures import PairBatch, SupportBatch
from tireid.training.evaluate import evaluate
from tireid.training.run import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

DEVICE = "cuda"
ON_GPU = ["trainer=gpu", "trainer.log_every_n_steps=1"]
METHODS = ["baseline", "lgur", "lcr2s"]
ENCODERS = [
    ("resnet_tiny", "bilstm_tiny"),
    ("vit_tiny", "bert_bilstm_tiny"),
    ("resnet_tiny", "textcnn_tiny"),
    ("clip_tiny", "clip_text_tiny"),
    ("vit_tiny", "bert_tiny"),
]


@pytest.fixture(autouse=True)
def _precision_of_products():
    """A training allows TF32 for its process; give back what was before."""
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def losses(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def record_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def weights_of(folder):
    file = folder / "checkpoints" / "last.ckpt"
    return torch.load(file, map_location="cpu", weights_only=True)["state_dict"]


# Runs


@pytest.mark.slow
@pytest.mark.parametrize("method", [*METHODS, "lcr2s_plain"])
def test_a_run_trains_validates_and_is_tested_in_bfloat16(
    small_config, compose_config, tmp_path, method
):
    metrics = train(small_config(tmp_path, *ON_GPU, f"model={method}"))
    record = record_of(tmp_path)
    assert record["finished"] is True
    assert record["precision"] == "bf16-mixed"
    assert record["device"] == torch.cuda.get_device_name()
    assert record["epochs"] == 2
    assert record["peak_memory_mib"] > 1
    assert (tmp_path / "gallery_test.png").exists()
    for split in ("val", "test"):
        assert 0 <= metrics[f"{split}/R1"] <= 100
    for name, weight in weights_of(tmp_path).items():
        assert weight.isfinite().all(), name
        assert weight.dtype in (torch.float32, torch.int64), name
    again = evaluate(compose_config(f"run={tmp_path}", "accelerator=gpu", name="evaluate"))
    assert again["test/mAP"] == pytest.approx(metrics["test/mAP"], abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("image_encoder", "text_encoder"), ENCODERS[1:])
def test_every_encoder_trains(small_config, tmp_path, image_encoder, text_encoder):
    encoders = [f"image_encoder={image_encoder}", f"text_encoder={text_encoder}"]
    size = "dataset.image_size=[96,32]"
    metrics = train(small_config(tmp_path, *ON_GPU, "max_epochs=1", size, *encoders))
    assert 0 <= metrics["test/R1"] <= 100
    assert all(weight.isfinite().all() for weight in weights_of(tmp_path).values())


@pytest.mark.slow
def test_words_of_a_frozen_bert_are_kept_by_the_gpu_and_change_no_loss(
    small_config, cache_dir, tmp_path
):
    found = []
    for cached in ("true", "false"):
        folder = tmp_path / cached
        frozen = ["text_encoder=bert_bilstm_tiny", "text_encoder.module.embedding.frozen=true"]
        places = [f"paths.cache_dir={tmp_path}", f"dataset.read.cache_dir={cache_dir}"]
        train(
            small_config(
                folder, *ON_GPU, *frozen, *places, f"cache_words={cached}", "model=baseline",
                "trainer.precision=32-true", "max_epochs=1",
            )
        )  # fmt: skip
        found.append(losses(folder))
    assert found[0] == pytest.approx(found[1], rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "precision"),
    [
        ("baseline", "bf16-mixed"),
        ("lgur", "bf16-mixed"),
        ("lgur", "32-true"),
        ("lcr2s", "bf16-mixed"),
    ],
)
def test_same_seed_same_losses(small_config, tmp_path, method, precision):
    found = []
    for number in range(2):
        folder = tmp_path / str(number)
        train(small_config(folder, *ON_GPU, f"model={method}", f"trainer.precision={precision}"))
        found.append((losses(folder), weights_of(folder)))
    assert len(found[0][0]) == 8
    assert found[0][0] == found[1][0]
    for name, weight in found[0][1].items():
        assert torch.equal(weight, found[1][1][name]), name


class KilledError(BaseException):
    """Stands for a kill: nobody catches it."""


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_killed_run_ends_as_an_unbroken_one(small_config, tmp_path, monkeypatch, capsys, method):
    settings = [*ON_GPU, f"model={method}", "callbacks.last.every_n_train_steps=1"]
    train(small_config(tmp_path / "whole", *settings))
    total_loss = RetrievalModule.total_loss

    def dying(self, terms, batch_size):
        if self.global_step == 6 and "Teacher" not in type(self).__name__:
            monkeypatch.setattr(RetrievalModule, "total_loss", total_loss)
            raise KilledError
        return total_loss(self, terms, batch_size)

    monkeypatch.setattr(RetrievalModule, "total_loss", dying)
    with pytest.raises(KilledError):
        train(small_config(tmp_path / "killed", *settings))
    capsys.readouterr()
    train(small_config(tmp_path / "killed", *settings))
    assert "continuing after " in capsys.readouterr().out
    whole, killed = (tmp_path / name for name in ("whole", "killed"))
    assert losses(killed) == losses(whole)
    assert record_of(killed)["metrics"] == record_of(whole)["metrics"]
    expected = weights_of(whole)
    for name, weight in weights_of(killed).items():
        assert torch.equal(weight, expected[name]), name


@pytest.mark.slow
def test_sigterm_ends_a_process_with_75_and_the_same_command_continues(tmp_path, cache_dir):
    words = "trainer=gpu model=baseline max_epochs=8 batch_size=8 logger=csv"
    words += " dataset.read.num_train_ids=8 dataset.read.num_val_ids=3 dataset.read.num_test_ids=4"
    words += " dataset.read.images_per_id=2 dataset.image_size=[48,16] trainer.log_every_n_steps=1"
    command = [sys.executable, "-m", "tireid", "train", *words.split()]
    folder = tmp_path / "run"
    command += [f"paths.cache_dir={cache_dir}", f"hydra.run.dir={folder}"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not (folder / "metrics.csv").exists():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 75, said
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "continuing after" in done.stdout
    assert record_of(folder)["finished"]


@pytest.mark.slow
def test_a_compiled_run_learns_the_same(small_config, tmp_path):
    """In a process of its own: what checks the shapes here cannot be compiled."""
    from omegaconf import OmegaConf

    tiny = ["model=lgur", "max_epochs=1", "image_encoder=vit_tiny", "image_encoder.module.depth=1"]
    tiny += ["model.head.prototype_depth=1", "+trainer.limit_train_batches=3", *ON_GPU]
    tiny += ["trainer.precision=32-true"]  # in bfloat16 the losses differ by a hundredth
    plain, compiled = tmp_path / "plain", tmp_path / "compiled"
    train(small_config(plain, *tiny))
    OmegaConf.save(small_config(compiled, *tiny, "compile=true"), tmp_path / "config.yaml")
    code = (
        "import sys, omegaconf; from tireid.training.run import train; "
        "train(omegaconf.OmegaConf.load(sys.argv[1]))"
    )
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "config.yaml")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert any((tmp_path / "inductor").iterdir())  # it did compile
    found, expected = losses(compiled), losses(plain)
    assert len(found) == len(expected) == 3
    assert found[0] == pytest.approx(expected[0], rel=0.01)


# Evaluation


@pytest.fixture(scope="module")
def float_run(small_config, tmp_path_factory):
    """Return the folder of an LGUR run in float32 with enough captions to compare metrics."""
    folder = tmp_path_factory.mktemp("float_run")
    sizes = ["dataset.read.num_test_ids=24", "dataset.read.images_per_id=4", "max_epochs=4"]
    precision = "trainer.precision=32-true"
    train(small_config(folder, *ON_GPU, "model=lgur", precision, *sizes))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("tf32", "tolerance"), [(False, 0.3), (True, 1.0)])
def test_a_run_is_evaluated_to_the_same_metrics_on_gpu_and_cpu(
    float_run, compose_config, monkeypatch, tf32, tolerance
):
    if not tf32:
        monkeypatch.setattr("tireid.training.evaluate.allow_tf32", lambda _: None)
        torch.set_float32_matmul_precision("highest")
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    gpu, cpu = (
        evaluate(compose_config(f"run={float_run}", f"accelerator={name}", name="evaluate"))
        for name in ("gpu", "cpu")
    )
    print({name: (gpu[name], cpu[name]) for name in cpu})  # noqa: T201
    assert gpu.keys() == cpu.keys()
    for name in ("test/mAP", "test/R10", "test/i2t_mAP"):
        assert gpu[name] == pytest.approx(cpu[name], abs=tolerance), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_embeddings_on_the_gpu_rank_as_on_the_cpu(dtype):
    generator = torch.Generator().manual_seed(0)
    texts = torch.randn(700, 64, generator=generator).to(dtype)
    images = torch.randn(400, 64, generator=generator).to(dtype)
    images[200:300] = images[:100]  # ties
    image_pids = torch.arange(400) % 97
    paired = torch.randint(400, (700,), generator=generator)
    pids = image_pids[paired]
    texts = texts + images[paired]
    on_gpu = [tensor.to(DEVICE) for tensor in (texts, images, pids, image_pids, paired)]
    expected = evaluate_embeddings(texts, images, pids, image_pids, paired=paired)
    *given, own = on_gpu
    assert evaluate_embeddings(*given, paired=own) == expected
    found, wanted = top_k(on_gpu[0], on_gpu[1], k=10), top_k(texts, images, k=10)
    assert torch.equal(found[1].cpu(), wanted[1])
    torch.testing.assert_close(found[0].cpu(), wanted[0], rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_a_loaded_model_encodes_on_the_gpu_as_on_the_cpu(float_run):
    captions = ["a woman in a red coat", "a man with a blue backpack and grey trousers", "a child"]
    images = sorted(float_run.glob("*.png"))[:2]
    on_gpu, on_cpu = (tireid.load(float_run, device=name) for name in (DEVICE, "cpu"))
    for encode, items in (("encode_text", captions), ("encode_image", images)):
        found, expected = (getattr(one, encode)(items) for one in (on_gpu, on_cpu))
        assert found.device.type == "cpu"
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, atol=3e-3, rtol=0)
        norms = found.norm(dim=1)
        torch.testing.assert_close(norms, torch.ones_like(norms), atol=1e-5, rtol=0)


# Losses

BATCH, WIDTH = 16, 64


def found_losses():
    for module in pkgutil.iter_modules(tireid.losses.__path__, "tireid.losses."):
        for name, member in vars(importlib.import_module(module.name)).items():
            own = getattr(member, "__module__", None) == module.name
            if own and name.endswith("_loss") and not name.startswith("_"):
                yield member


LOSSES = sorted(found_losses(), key=lambda loss: loss.__name__)


def loss_and_gradients(loss, device, dtype, draws=None):
    generator = torch.Generator().manual_seed(0)
    arguments = {}
    for name, parameter in inspect.signature(loss).parameters.items():
        if name in ("pids", "labels"):
            arguments[name] = (torch.arange(BATCH) % 12).to(device)
        elif parameter.default is inspect.Parameter.empty:
            features = torch.randn(BATCH, WIDTH, generator=generator)
            arguments[name] = features.to(device, dtype).requires_grad_()
    if draws is not None:
        arguments["triplets"] = tuple(type(one)(*(t.to(device) for t in one)) for one in draws)
    value = loss(**arguments)
    value.backward()
    given = [one.grad for one in arguments.values() if getattr(one, "grad", None) is not None]
    assert given
    return value.detach(), torch.cat([gradient.flatten() for gradient in given])


def relative_error(found, expected):
    return float((found.double().cpu() - expected).norm() / expected.norm())


@pytest.mark.parametrize("precision", ["highest", "high"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_and_its_gradient_are_those_of_the_cpu_in_double_precision(loss, precision):
    """Also where TF32 is allowed, as in a training: losses compute in float32."""
    draws = None
    if loss is ranking_loss:
        pids = torch.arange(BATCH) % 12
        similarity = torch.randn(BATCH, BATCH, generator=torch.Generator().manual_seed(2)) / 8
        numbers = torch.rand(BATCH, BATCH)
        sides = (similarity, similarity.mT)
        draws = [mine_semi_hard(side, pids, draws=numbers, margin=0.3) for side in sides]
    expected, expected_gradient = loss_and_gradients(loss, "cpu", torch.float64, draws)
    torch.set_float32_matmul_precision(precision)
    value, gradient = loss_and_gradients(loss, DEVICE, torch.float32, draws)
    assert value.dtype == torch.float32
    errors = relative_error(value, expected), relative_error(gradient, expected_gradient)
    print(loss.__name__, precision, *(f"{error:.1e}" for error in errors))  # noqa: T201
    assert errors[0] < 1e-5
    assert errors[1] < 1e-5


def test_negatives_drawn_on_the_gpu_are_semi_hard():
    pids = torch.arange(64, device=DEVICE) % 40
    similarity = torch.rand(64, 64, device=DEVICE) / 2
    size = {"number": 1, "rows": 64, "columns": 64, "device": similarity.device}
    draws = keyed_uniform(5, 0, **size)[0]
    negative, used = mine_semi_hard(similarity, pids, draws=draws, margin=0.3)
    chosen = similarity.gather(1, negative[:, None])[:, 0]
    gap = chosen - similarity.diagonal() + 0.3
    assert used.any()
    assert ((gap > 0) & (gap < 0.3) & (pids[negative] != pids))[used].all()
    assert torch.equal(keyed_uniform(5, 0, **size)[0], draws)


# Batch norms


def normed(layer, features, *masks):
    features = features.clone().requires_grad_()
    out = layer(features, *masks)
    kept = out * masks[0] if masks else out
    weights = torch.linspace(-1, 1, kept.numel(), dtype=kept.dtype, device=kept.device)
    (kept * weights.view_as(kept)).sum().backward()
    return [
        one.detach().double().cpu()
        for one in (
            kept,
            features.grad,
            layer.weight.grad,
            layer.bias.grad,
            layer.running_mean,
            layer.running_var,
        )
    ]


@pytest.fixture
def one_process():
    """Return a process group of this process alone."""
    dist.init_process_group("nccl", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_masked_batch_norm_is_that_of_the_cpu(dtype):
    generator = torch.Generator().manual_seed(0)
    features = (2 + 3 * torch.randn(6, 32, 20, generator=generator)).to(dtype)
    valid = (torch.arange(20) < torch.tensor([20, 3, 8, 1, 15, 9])[:, None])[:, None]
    expected = normed(MaskedBatchNorm(32).double(), features.double(), valid)
    found = normed(MaskedBatchNorm(32).to(DEVICE), features.to(DEVICE), valid.to(DEVICE))
    bound = 1e-5 if dtype == torch.float32 else 2e-2
    for one, wanted in zip(found, expected, strict=True):
        assert relative_error(one, wanted) < bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shared", [False, True])
def test_a_batch_norm_is_that_of_the_cpu(request, shared, dtype):
    """Shared: as on several GPUs, whose statistics are added up, with one process."""
    if shared:
        request.getfixturevalue("one_process")
    generator = torch.Generator().manual_seed(0)
    features = (2 + 3 * torch.randn(6, 32, 9, 7, generator=generator)).to(dtype)
    expected = normed(nn.BatchNorm2d(32).double(), features.double())
    norm = replace_batch_norms(nn.BatchNorm2d(32)).to(DEVICE)
    norm.shared_statistics = shared
    images = features.to(DEVICE).contiguous(memory_format=torch.channels_last)
    bound = 1e-5 if dtype == torch.float32 else 2e-2
    for one, wanted in zip(normed(norm, images), expected, strict=True):
        assert relative_error(one, wanted) < bound


def test_a_gallery_in_chunks_is_ranked_as_on_the_cpu(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    texts, images = (torch.randn(n, 48, generator=generator) for n in (70, 333))
    pids = torch.arange(70) % 9, torch.arange(333) % 8
    expected = evaluate_embeddings(texts, images, *pids)
    monkeypatch.setattr(device_ranking, "_CHUNK", 8 * 48 * 100)
    there = (part.to(DEVICE) for part in (texts, images, *pids))
    assert evaluate_embeddings(*there) == expected


# Waiting


def training_batch(image_size, with_support):
    valid = torch.arange(9) < torch.tensor([9, 4, 6, 5, 2, 9, 7, 3])[:, None]
    rows = torch.arange(8)
    token_ids = torch.randint(1, 100, (8, 9)) * valid
    support = None
    if with_support:
        slots = torch.stack([rows, rows.flip(0)], dim=1)
        support = SupportBatch(torch.randn(8, 3, *image_size), slots, token_ids, valid, slots)
    labels = rows // 2
    images = torch.randn(8, 3, *image_size)
    return PairBatch(images, token_ids, valid, labels, labels, rows, rows, support=support)


def on_device(batch):
    return type(batch)(
        *(
            on_device(x) if isinstance(x, tuple) else None if x is None else x.to(DEVICE)
            for x in batch
        )
    )


def make_method(cfg, method):
    """Return a method, a teacher or a student, and whether it needs support sets."""
    teacher = instantiate(cfg.model.teacher, _convert_="all") if "teacher" in cfg.model else None
    if method == "teacher":
        made = teacher(num_train_pids=7, **build_encoders(cfg))
        return made, made.source == "dataset"
    model = build_model(cfg, build_encoders(cfg), 7)
    if method == "student":
        width = model.feature_dim
        model.set_teacher(TargetTable(torch.randn(8, width), torch.randn(8, width)))
    return model, False


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("method", "settings", "encoders", "precision"),
    [
        *(("lgur", "model=lgur", encoders, "bfloat16") for encoders in ENCODERS),
        ("lgur", "model=lgur", ENCODERS[0], "float32"),
        ("lgur", "model=lgur", ENCODERS[1], "float32"),
        ("baseline", "model=baseline", ENCODERS[0], "bfloat16"),
        (
            "lgur",
            "model=lgur model.identity=sampled model.identity_share=1.0",
            ENCODERS[0],
            "bfloat16",
        ),
        ("baseline", "model=baseline model/alignment=cmpm", ENCODERS[2], "float32"),
        ("teacher", "model=lcr2s", ENCODERS[0], "bfloat16"),
        ("teacher", "model=lcr2s model.teacher.source=batch", ENCODERS[0], "bfloat16"),
        ("teacher", "model=lcr2s_plain", ENCODERS[2], "bfloat16"),
        ("teacher", "model=lcr2s_plain", ENCODERS[2], "float32"),
        ("student", "model=lcr2s model.gradient_share_steps=0", ENCODERS[0], "bfloat16"),
        ("student", "model=lcr2s_plain model.gradient_share_steps=0", ENCODERS[2], "bfloat16"),
    ],
    ids=str,
)
def test_a_training_step_does_not_wait_for_the_gpu(
    compose_config, tmp_path, monkeypatch, method, settings, encoders, precision
):
    cfg = compose_config(
        *settings.split(),
        f"image_encoder={encoders[0]}",
        f"text_encoder={encoders[1]}",
        f"paths.output_dir={tmp_path}",
    )
    model, with_support = make_method(cfg, method)
    model = model.to(DEVICE).train()
    monkeypatch.setattr(model, "log_dict", lambda *_, **__: None)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
    batch = on_device(training_batch((96, 32), with_support))

    def step():
        with torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = model.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()  # the first one sets up what waits
    torch.cuda.synchronize()
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # a prototype feature
            torch.cuda.set_sync_debug_mode("error")
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_images_are_normalised_on_the_device_as_by_the_workers():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 96, 32), dtype=torch.uint8, generator=generator)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    there = Normalise(mean, std)(images.cuda())
    assert there.is_cuda
    assert torch.equal(there.cpu(), Normalise(mean, std)(images))
