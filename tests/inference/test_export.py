"""An exported folder holds what embedding needs, says where it came from, and nothing else."""

import json
import re
import shutil
import sys

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

import tireid
from tireid.cli.hydra_app import run_command
from tireid.data.images import read_image, resampling
from tireid.inference.export import export
from tireid.inference.saved_config import inference_config
from tireid.runs.weights import read_weights

CAPTIONS = ["a man with a red coat and a bag", "woman", "zqx 7 !"]


@pytest.fixture(scope="module")
def export_run(compose_config):
    """Return a function that exports a run."""

    def exported(run, output, *overrides):
        return export(compose_config(f"run={run}", f"output={output}", *overrides, name="export"))

    return exported


@pytest.fixture(scope="module")
def lgur_export(lgur_run, export_run, tmp_path_factory):
    """Return the run folder, the exported folder and the run's metrics."""
    folder, metrics = lgur_run
    return folder, export_run(folder, tmp_path_factory.mktemp("out") / "new" / "lgur"), metrics


@pytest.fixture
def copied_export(lgur_export, tmp_path):
    """Return a copy of the export that may be damaged."""
    return shutil.copytree(lgur_export[1], tmp_path / "moved")


def images_of(data_root):
    return sorted(data_root.rglob("*.jpg"))[:5]


def same_embeddings(first, second, images):
    for name, items in (("encode_text", CAPTIONS), ("encode_image", images)):
        found, expected = (
            getattr(tireid.load(path, "cpu"), name)(items) for path in (first, second)
        )
        assert torch.equal(found, expected)


def test_an_export_embeds_as_its_run_does(lgur_export, copied_export, cache_dir):
    run, folder, _ = lgur_export
    same_embeddings(folder, run, images_of(cache_dir))
    same_embeddings(copied_export / "model.safetensors", run, images_of(cache_dir))


def test_identity_heads_stay_behind_and_all_else_is_exported(lgur_export):
    run, folder, _ = lgur_export
    (checkpoint,) = (run / "checkpoints").glob("epoch*.ckpt")
    state, weights = read_weights(checkpoint), load_file(folder / "model.safetensors")
    assert state.keys() - weights.keys() == {"classifier_weight", "classifier_bias"}
    for name, value in weights.items():
        assert torch.equal(value, state[name])
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors",
        "config.yaml",
        "tokenizer",
        "metrics.json",
        "README.md",
    }


def test_the_config_holds_what_embedding_needs(lgur_export):
    run, folder, _ = lgur_export
    config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    assert set(config) == {"model", "image_encoder", "text_encoder", "dataset", "trainer", "tf32"}
    assert set(config["image_encoder"]) == {"module", "mean", "std", "interpolation"}
    assert set(config["dataset"]) == {"name", "image_size", "terms"}
    assert not {"optimizer", "schedule", "learning_rates"} & set(config["model"])
    text = (folder / "config.yaml").read_text()
    assert "num_train_pids" not in text
    assert str(run) not in text
    assert str(run) not in (folder / "README.md").read_text()


def test_the_way_to_decode_travels_with_the_model(copied_run, cache_dir):
    before = tireid.load(copied_run, "cpu")
    settings = OmegaConf.load(copied_run / "config.yaml")
    del settings.dataset.decode  # as in runs of earlier versions
    OmegaConf.save(settings, copied_run / "config.yaml")
    assert "decode" not in inference_config(copied_run).dataset
    settings.dataset.decode = "fast"
    OmegaConf.save(settings, copied_run / "config.yaml")
    size, image = before.image_size, images_of(cache_dir)[0]
    expected = read_image(image, size, resampling(before.interpolation), decoder="fast")
    assert not torch.equal(expected, before.read_pixels(image))
    assert inference_config(copied_run).dataset.decode == "fast"  # what an export writes
    retriever = tireid.load(copied_run, "cpu")
    assert torch.equal(retriever.read_pixels(image), expected)
    assert retriever.fingerprint != before.fingerprint
    settings.dataset.decode = "quick"
    OmegaConf.save(settings, copied_run / "config.yaml")
    with pytest.raises(ValueError, match="decode: expected pillow or fast, got 'quick'"):
        tireid.load(copied_run, "cpu")


def test_the_record_is_the_runs(lgur_export):
    run, folder, metrics = lgur_export
    known = json.loads((run / "metrics.json").read_text())
    record = json.loads((folder / "metrics.json").read_text())
    assert record == {
        "metrics": metrics,
        "selection": "val",
        "seed": 1,
        "commit": known["commit"],
        "dirty": known["dirty"],
        "checkpoint": known["tested_checkpoint"],
        "tested": True,
    }


def test_the_card_says_where_the_weights_come_from(lgur_export):
    run, folder, metrics = lgur_export
    known = json.loads((run / "metrics.json").read_text())
    card = (folder / "README.md").read_text()
    weights = load_file(folder / "model.safetensors").values()
    for line in (
        "# LGUR on synthetic\n",
        "| image encoder | `ResNetEncoder`, from random weights; images of 48x16 pixels |",
        "| text encoder | `BiLstmEncoder` over `WordEmbedding`, from random weights |",
        f"| size | {sum(value.numel() for value in weights):,} weights; embeddings of 3072 |",
        "| terms of the data | Made by this package; no real people, free to use. |",
        "| seed | 1 |",
        f"`{known['tested_checkpoint']}`: the best epoch on the validation split |",
        f"| test | text to image | {metrics['test/R1']:.2f} | {metrics['test/R5']:.2f} |",
        f"| val | image to text | {metrics['val/i2t_R1']:.2f} |",
        "nobody was photographed",
        "must not be used to track or identify people without their consent",
        "| command | not recorded |",
    ):
        assert line in card
    commit = f"| commit | `{known['commit']}`" if known["commit"] else "| commit | not recorded"
    assert commit in card
    assert "test split**" not in card


def test_a_choice_made_on_the_test_split_is_said(copied_run, export_run, tmp_path, capsys):
    for name in ("config.yaml", "metrics.json"):
        content = OmegaConf.load(copied_run / name)
        content.selection = "test"
        text = json.dumps(OmegaConf.to_container(content))
        (copied_run / name).write_text(text)
    folder = export_run(copied_run, tmp_path / "out")
    card = (folder / "README.md").read_text()
    assert "**This checkpoint was chosen on the test split.**" in card
    assert json.loads((folder / "metrics.json").read_text())["selection"] == "test"
    assert "chosen on the test split" in capsys.readouterr().out


def test_metrics_are_those_of_the_exported_checkpoint(copied_run, export_run, tmp_path):
    last = copied_run / "checkpoints" / "last.ckpt"
    card = (export_run(last, tmp_path / "a") / "README.md").read_text()
    assert "`last.ckpt`, not the one that the run tested" in card
    assert "No metrics of this checkpoint are recorded" in card
    measured = {"checkpoint": "last.ckpt", "split": "test", "metrics": {"test/R1": 12.345}}
    (copied_run / "evaluation_test_last.json").write_text(json.dumps(measured))
    card = (export_run(last, tmp_path / "b") / "README.md").read_text()
    assert "| test | text to image | 12.35 | - |" in card


def test_the_command_is_told_without_the_trainers_folders(copied_run, export_run, tmp_path):
    (copied_run / ".hydra").mkdir()
    typed = [
        "model=lgur",
        "dataset.root=/home/somebody/data",
        "image_encoder.pretrained='/models/my deit'",
        "paths.runs_dir=/home/somebody/runs",
        "hydra.run.dir=here",
        "dataset.image_size=[48,16]",
    ]
    OmegaConf.save(typed, copied_run / ".hydra" / "overrides.yaml")
    settings = OmegaConf.load(copied_run / "config.yaml")
    settings.image_encoder.pretrained = "/home/somebody/deit"
    OmegaConf.save(settings, copied_run / "config.yaml")
    card = (export_run(copied_run, tmp_path / "out") / "README.md").read_text()
    command = (
        "python -m tireid train model=lgur dataset.root=DIR image_encoder.pretrained=DIR "
        "'dataset.image_size=[48,16]'"
    )
    assert f"| command | `{command}` |" in card
    assert "`ResNetEncoder`, from `deit`;" in card
    assert "somebody" not in card


def test_no_secret_of_the_environment_and_no_control_character_is_written(
    copied_run, export_run, tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_API_KEY", "hunter2")
    (copied_run / ".hydra").mkdir()
    (copied_run / ".hydra" / "overrides.yaml").write_text("- seed=${oc.env:WANDB_API_KEY}\n")
    settings = OmegaConf.to_container(OmegaConf.load(copied_run / "config.yaml"))
    settings["image_encoder"]["pretrained"] = "${oc.env:WANDB_API_KEY}"
    settings["dataset"]["terms"] = "\x1b[2Jmine"
    OmegaConf.save(OmegaConf.create(settings), copied_run / "config.yaml")
    out = export_run(copied_run, tmp_path / "out")
    for file in out.rglob("*"):
        assert file.is_dir() or b"hunter2" not in file.read_bytes(), file
    card = (out / "README.md").read_text()
    assert "'seed=${oc.env:WANDB_API_KEY}'" in card
    assert "?[2Jmine" in card


def test_real_data_and_an_official_checkpoint(copied_run, export_run, tmp_path):
    settings = OmegaConf.load(copied_run / "config.yaml")
    settings.dataset.name, settings.dataset.terms = "cuhk_pedes", "Research only | ask"
    settings.dataset.root = "/nowhere"
    settings.selection = "test"
    OmegaConf.save(settings, copied_run / "config.yaml")
    record = {"tested_checkpoint": "last.ckpt", "converted_from": "best.pth.tar"}
    (copied_run / "metrics.json").write_text(json.dumps(record))
    folder = export_run(copied_run, tmp_path / "out")
    card = (folder / "README.md").read_text()
    assert "| terms of the data | Research only \\| ask |" in card
    assert "bind users of these weights too" in card
    assert "converted from `best.pth.tar` of the official LGUR code" in card
    assert "This checkpoint was chosen on the test split" in card
    assert "random weights" not in card
    assert "| seed | not recorded |" in card
    assert tireid.load(folder, "cpu").encode_text(CAPTIONS).shape == (3, 3072)


def test_the_baseline_too(untrained_run, export_run, tmp_path, cache_dir):
    run = untrained_run("model=baseline")
    folder = export_run(run, tmp_path / "out")
    weights = load_file(folder / "model.safetensors")
    assert not any("classifier" in name for name in weights)
    assert weights["image_projection.weight"].shape == (512, 256)
    same_embeddings(folder, run, images_of(cache_dir))


def test_where_an_export_may_go(lgur_run, export_run, compose_config, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    for place in (tmp_path / "full", tmp_path / "full" / "a"):
        with pytest.raises(ValueError, match="output: expected a new or empty folder, got"):
            export_run(lgur_run[0], place)
    with pytest.raises(ValueError, match="output: expected a new folder; set output="):
        export(compose_config(f"run={lgur_run[0]}", name="export"))
    with pytest.raises(ValueError, match="run: expected a run folder"):
        export(compose_config(f"output={tmp_path / 'new'}", name="export"))
    with pytest.raises(FileNotFoundError, match="expected a run folder with checkpoints"):
        export_run(tmp_path, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("setting", "beside"),
    [
        ("int8=true", "format=onnx"),
        ("dataset_root=D", "format=onnx int8=true"),
        ("private=false", "push=OWNER/NAME"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(compose_config, tmp_path, setting, beside):
    with pytest.raises(ValueError, match=f"does nothing without {beside}, got"):
        export(compose_config("run=any", f"output={tmp_path / 'new'}", setting, name="export"))


def test_a_damaged_run_leaves_no_folder(copied_run, export_run, tmp_path):
    shutil.rmtree(copied_run / "tokenizer")
    with pytest.raises(FileNotFoundError, match="tokenizer: expected a saved tokenizer, but tok"):
        export_run(copied_run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_exports_are_refused_by_name(copied_export):
    file = copied_export / "model.safetensors"
    weights, whole = load_file(file), file.read_bytes()

    def refused(error, message):
        with pytest.raises(error, match=message):
            tireid.load(copied_export)

    for size in (0, 7, 100, len(whole) - 1):
        file.write_bytes(whole[:size])
        refused(ValueError, r"model\.safetensors: expected the weights of a training run, got Safe")
    save_file(weights | {"stray": torch.zeros(1)}, file)
    refused(ValueError, r"model\.safetensors: does not fit the LGUR .*1 left over \(stray\)")
    save_file({name: v for name, v in weights.items() if "dictionary" not in name}, file)
    refused(ValueError, r"model\.safetensors: does not fit the LGUR .* missing \(head\.dictionary")
    file.unlink()
    refused(FileNotFoundError, r"expected an exported folder with model\.safetensors")
    file.write_bytes(whole)
    tokenizer = copied_export / "tokenizer" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text()[:99])
    refused(ValueError, r"tokenizer\.json: expected a vocabulary in JSON, got Expecting")
    tokenizer.unlink()
    refused(FileNotFoundError, r"expected a saved tokenizer, but tokenizer\.json is missing")
    config = copied_export / "config.yaml"
    config.write_text(
        config.read_text().replace("tireid.encoders.resnet.ResNetEncoder", "os.mkdir")
    )
    refused(ValueError, r"config\.yaml: image_encoder\.module\._target_: expected .*'os\.mkdir'")
    config.unlink()
    refused(FileNotFoundError, r"moved: expected config\.yaml in it")


def test_the_command_line_reports_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["export", f"run={tmp_path}", f"output={tmp_path / 'out'}"])
    with pytest.raises(SystemExit, match="1"):
        run_command("export")
    assert re.match(r"error: .*: expected a run folder with checkpoints/", capsys.readouterr().err)
