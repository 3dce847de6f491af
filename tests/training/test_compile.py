"""`compile=true`: what it does to a model, what it needs, and that its checkpoint is like any."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from torch import nn

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


def test_the_encoders_and_the_head_are_compiled_in_place(compose_config, monkeypatch, tmp_path):
    cfg = compose_config(*TINY, f"paths.output_dir={tmp_path}")
    model = build_model(cfg, build_encoders(cfg), 5)
    names = list(model.state_dict())
    compiled = {}
    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: compiled.update({self: how}))
    compile_model(model)
    assert compiled == {
        model.image_encoder: {"dynamic": None},
        model.text_encoder: {"dynamic": True},
        model.head: {"dynamic": True},
    }
    assert list(model.state_dict()) == names


def test_a_method_without_a_head_is_compiled_too(compose_config, monkeypatch, tmp_path):
    cfg = compose_config("model=baseline", f"paths.output_dir={tmp_path}")
    model = build_model(cfg, build_encoders(cfg), 5)
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: compiled.append(self))
    compile_model(model)
    assert compiled == [model.image_encoder, model.text_encoder]


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
