"""`compile=true`: what it does to a model, what it needs, and that its checkpoint is like any."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tireid.files import conf_dir
from tireid.inference.build import build_encoders, build_model
from tireid.runs.log import read_columns
from tireid.training.build import compile_model
from tireid.training.evaluate import evaluate
from tireid.training.run import train

TINY = [
    "model=lgur",
    "max_epochs=1",
    "image_encoder=vit_tiny",
    "image_encoder.module.depth=1",
    "model.head.prototype_depth=1",
    "trainer.log_every_n_steps=1",
    "+trainer.limit_train_batches=2",
]
CLIP = ["image_encoder=clip_tiny", "text_encoder=clip_text_tiny"]


def test_the_encoders_and_the_head_are_compiled_in_place(compose_config, monkeypatch, tmp_path):
    cfg = compose_config(*TINY, f"paths.output_dir={tmp_path}")
    model = build_model(cfg, build_encoders(cfg), 5)
    names = list(model.state_dict())
    compiled = {}
    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: compiled.update({self: how}))
    compile_model(model)
    assert compiled == {
        model.image_encoder: {"dynamic": None},
        model.text_encoder.embedding: {"dynamic": True},  # an LSTM is left as it is
        model.head: {"dynamic": True},
    }
    assert list(model.state_dict()) == names


def test_a_method_without_a_head_is_compiled_too(compose_config, monkeypatch, tmp_path):
    cfg = compose_config("model=baseline", f"paths.output_dir={tmp_path}")
    model = build_model(cfg, build_encoders(cfg), 5)
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: compiled.append(self))
    compile_model(model)
    assert compiled == [model.image_encoder, model.text_encoder.embedding]


def test_what_rde_calls_of_clip_and_a_joint_teacher_are_compiled_too(
    compose_config, monkeypatch, tmp_path
):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: compiled.append(self))
    monkeypatch.setattr(
        torch,
        "compile",
        lambda function, **how: lambda *args: compiled.append(how) or function(*args),
    )
    cfg = compose_config("model=rde", *CLIP, f"paths.output_dir={tmp_path}")
    model = build_model(cfg, build_encoders(cfg), 5)
    compile_model(model)
    assert compiled == [model.image_encoder, model.text_encoder]
    model.image_features(torch.zeros(1, 3, *model.image_encoder.image_size))
    assert compiled[2:] == [{"dynamic": None}]

    compiled.clear()
    cfg = compose_config("model=lcr2s", "model.joint=true", *CLIP, f"paths.output_dir={tmp_path}")
    model = build_model(cfg, build_encoders(cfg), 5)
    compile_model(model)
    duals = (model.dual, model.teacher.dual)
    assert compiled == [encoder for m in duals for encoder in (m.image_encoder, m.text_encoder)]


IN_PIECES = """
import torch
from torch import nn
from tireid.encoders.clip import ClipImageEncoder
from tireid.encoders.low_memory import encode_in_pieces
from tireid.training.build import compile_model

usual = torch.compile
torch.compile = lambda function, **how: usual(function, **(how | {"backend": "eager"}))
torch.manual_seed(0)
model = nn.Module()
model.image_encoder = encoder = ClipImageEncoder(
    image_size=(16, 8), patch_size=8, dim=8, depth=1, heads=2, out_dim=4
).double()
images, found = torch.randn(5, 3, 16, 8, dtype=torch.float64), []
for step in range(3):
    if step == 1:
        encode_in_pieces(encoder, 2)
        compile_model(model)
    encoder.zero_grad()
    tokens = encoder.with_attention(images)[0] if step == 2 else encoder(images)
    tokens.local.pow(3).sum().backward()
    found.append(torch.cat([p.grad.flatten() for p in encoder.parameters()]))
    torch.testing.assert_close(found[step], found[0], rtol=1e-9, atol=1e-9)
print(torch._dynamo.utils.counters["stats"]["unique_graphs"])
"""


@pytest.mark.slow
def test_a_batch_in_pieces_is_compiled_piece_by_piece():
    """In a process of its own, as below."""
    done = subprocess.run(
        [sys.executable, "-c", IN_PIECES], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


@pytest.mark.long
@pytest.mark.slow
def test_a_teacher_is_compiled_too(small_config, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: compiled.append(self))
    monkeypatch.setattr("tireid.training.run.check_compiler", lambda: None)
    train(small_config(tmp_path, "model=lcr2s", "max_epochs=1", "compile=true"))
    student, trained, loaded = compiled[:2], compiled[2:4], compiled[4:]
    for teacher in (trained, loaded):
        assert [type(module) for module in teacher] == [type(module) for module in student]
    assert len(set(compiled)) == 6


def test_a_missing_compiler_is_named_before_training(small_config, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match=r"got no 'no-such-compiler'; install one .*g\+\+"):
        train(small_config(tmp_path, *TINY, "compile=true"))
    assert not (tmp_path / "checkpoints").exists()


def test_another_word_is_refused(small_config, tmp_path):
    with pytest.raises(ValueError, match="compile: expected true or false, got 'max'"):
        train(small_config(tmp_path, *TINY, "compile=max"))


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="needs a C++ compiler"
)
def test_a_compiled_run_learns_the_same_and_is_evaluated_without(
    small_config, compose_config, tmp_path
):
    """In a process of its own: what checks the shapes here cannot be compiled."""
    from omegaconf import OmegaConf

    plain, compiled = tmp_path / "plain", tmp_path / "compiled"
    expected = train(small_config(plain, *TINY))
    OmegaConf.save(small_config(compiled, *TINY, "compile=true"), tmp_path / "config.yaml")
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
    assert list((tmp_path / "inductor").rglob("*.cpp"))  # it did compile

    states = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (plain, compiled)
    ]
    assert states[0].keys() == states[1].keys()
    # Rounding differs, and Adam turns the sign of a tiny gradient into a whole step: the loss of
    # the first step is compared, and the second's loosely.
    losses = [read_columns(folder / "metrics.csv")["train/loss"] for folder in (plain, compiled)]
    assert len(losses[0]) == len(losses[1]) == 2
    assert losses[1][0][1] == pytest.approx(losses[0][0][1], rel=1e-4)
    assert losses[1][1][1] == pytest.approx(losses[0][1][1], rel=0.1)
    assert losses[1][1][1] != losses[1][0][1]
    tested = json.loads((compiled / "metrics.json").read_text())["metrics"]
    assert tested.keys() == expected.keys()
    again = evaluate(compose_config(f"run={compiled}", "accelerator=cpu", name="evaluate"))
    assert again["test/mAP"] == pytest.approx(tested["test/mAP"], abs=0.01)


WITHOUT_BREAKS = """
import sys
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import nn
from tireid.files import conf_dir
from tireid.inference.build import build_encoders, build_model
from tireid.methods.base import align
from tireid.structures import MaskedWords, PairBatch
from tireid.training.build import compile_model

whole = {"fullgraph": True, "backend": "eager"}
usual = nn.Module.compile
nn.Module.compile = lambda self, **how: usual(self, **how, **whole)
valid = torch.arange(9) < torch.tensor([9, 4, 6, 5])[:, None]
rows = torch.arange(4)
ids = torch.randint(1, 100, (4, 9)) * valid
masked = MaskedWords(ids, rows, rows, rows)
batch = PairBatch(torch.randn(4, 3, 96, 32), ids, valid, rows, rows, rows, rows, masked=masked)


def composed(*words):
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        return compose("train", [*words, "paths.output_dir=unused"])


for words in sys.argv[1].split(";"):
    cfg = composed(*words.split(), "image_encoder.module.depth=1")
    model = build_model(cfg, build_encoders(cfg), 7).train()
    torch._dynamo.reset()
    if hasattr(model.text_encoder, "lstm"):
        compile_model(model)
        step = model.training_terms
    else:
        step = torch.compile(model.training_terms, **whole)
    torch.stack(list(step(batch, 1).terms.values())).sum().backward()

sides = [torch.randn(4, 8, requires_grad=True) for _ in range(2)]
for name in sys.argv[2].split():
    config = composed("model=baseline", f"model/alignment={name}").model.alignment
    loss = instantiate(config, _convert_="all")
    torch._dynamo.reset()
    compiled = torch.compile(align, **whole)
    for draw in range(3):
        compiled(loss, *sides, rows, draw=draw, classes=(rows, torch.randn(7, 8))).backward()
graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
print(graphs, dict(torch._dynamo.utils.counters["graph_break"]))
"""


LGUR = [
    "model=lgur image_encoder=vit_tiny text_encoder=bert_bilstm_tiny",
    "model=lgur image_encoder=vit_tiny text_encoder=bert_tiny",
]
OTHERS = [
    "model=baseline image_encoder=vit_tiny text_encoder=textcnn_tiny",
    "model=irra image_encoder=clip_tiny text_encoder=clip_text_tiny",
    "model=rde image_encoder=vit_tiny text_encoder=bert_tiny",
]
LOSSES = sorted(file.stem for file in (Path(conf_dir()) / "model" / "alignment").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("models", "losses"),
    [(LGUR, []), pytest.param(OTHERS, LOSSES, marks=pytest.mark.long)],
    ids=["lgur", "others"],
)
def test_no_step_has_a_graph_break_and_beside_an_lstm_no_compiled_part_has(models, losses):
    """In a process of its own, as above."""
    command = [sys.executable, "-c", WITHOUT_BREAKS, ";".join(models), " ".join(losses)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    graphs, breaks = done.stdout.split(maxsplit=1)
    assert int(graphs) >= len(models) + len(losses)
    assert breaks.strip() == "{}"
