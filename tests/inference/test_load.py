"""`tireid.load` embeds as `evaluate` does, and refuses what is damaged or foreign."""

import errno
import json
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import OmegaConf
from PIL import Image
from torch.nn import functional as F

import tireid
import tireid.training.evaluate
from tireid.callbacks.retrieval_evaluation import RetrievalEvaluation
from tireid.explanations.explain import explain
from tireid.inference.export import export
from tireid.inference.restore import restore_model
from tireid.inference.saved_config import evaluation_config, inference_config
from tireid.retrieval import evaluate_embeddings, top_k
from tireid.runs.weights import find_run, find_saved, read_weights
from tireid.search.indexing import IndexOptions, build_index

ENCODERS = {
    "baseline": ["image_encoder=vit_tiny", "text_encoder=bert_bilstm_tiny"],
    "lgur": ["image_encoder=clip_tiny", "text_encoder=clip_text_tiny"],
}


@pytest.fixture
def evaluated(monkeypatch, compose_config):
    """Return a function from a run to the embeddings and metrics that `evaluate` found."""
    made = []

    class Recorded(RetrievalEvaluation):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

        def _log(self, *args):
            self.kept = super()._log(*args)
            return self.kept

    monkeypatch.setattr(tireid.training.evaluate, "RetrievalEvaluation", Recorded)
    monkeypatch.setattr(tireid.training.evaluate, "ResultGallery", lambda *_, **__: Callback())

    def run(folder, split="test"):
        cfg = compose_config(f"run={folder}", f"split={split}", "accelerator=cpu", name="evaluate")
        metrics = tireid.training.evaluate.evaluate(cfg)
        return made[-1].kept, metrics

    return run


def embed_split(retriever, data, split="test", **options):
    records = data.records(split)
    captions = [caption for record in records for caption in record.captions]
    texts = retriever.encode_text(captions, **options)
    return texts, retriever.encode_image([record.image_path for record in records], **options)


def test_a_trained_run_ranks_as_evaluate_did(lgur_run, small_data, evaluated):
    folder, metrics = lgur_run
    torch.set_float32_matmul_precision("highest")  # another program's, not what evaluate sets
    texts, images = embed_split(tireid.load(folder, "cpu"), small_data)
    assert torch.get_float32_matmul_precision() == "highest"
    expected, again = evaluated(folder)
    for found, reference in ((texts, expected.texts), (images, expected.images)):
        assert found.dtype == torch.float32
        assert not found.requires_grad
        assert not found.is_inference()
        torch.testing.assert_close(found, reference, rtol=0, atol=1e-6)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(len(found)), rtol=0, atol=1e-6)
    text_pids, image_pids, paired = expected.text_pids, expected.image_pids, expected.image_index
    found = evaluate_embeddings(texts, images, text_pids, image_pids, paired=paired)
    found |= {
        f"i2t_{name}": value
        for name, value in evaluate_embeddings(images, texts, image_pids, text_pids).items()
    }
    # Lightning logs in float32.
    found = {f"test/{name}": float(torch.tensor(value)) for name, value in found.items()}
    assert found == again
    assert found == {name: v for name, v in metrics.items() if name.startswith("test/")}
    _, best = top_k(texts, images, k=3)
    assert torch.equal(best, top_k(expected.texts, expected.images, k=3)[1])


@pytest.mark.parametrize("method", ENCODERS)
def test_other_methods_and_encoders_embed_as_evaluate_does(
    untrained_run, small_data, evaluated, method
):
    folder = untrained_run(f"model={method}", *ENCODERS[method])
    expected, _ = evaluated(folder, "val")
    texts, images = embed_split(tireid.load(str(folder), "cpu"), small_data, "val")
    torch.testing.assert_close(texts, expected.texts, rtol=0, atol=1e-6)
    torch.testing.assert_close(images, expected.images, rtol=0, atol=1e-6)


def test_the_runs_precision_is_kept_and_norms_are_exact(untrained_run, small_data, evaluated):
    folder = untrained_run("model=baseline", "trainer.precision=bf16-mixed")
    expected, _ = evaluated(folder, "val")
    exact = untrained_run("model=baseline")
    for found, reference, other in zip(
        embed_split(tireid.load(folder, "cpu"), small_data, "val", batch_size=256),
        (expected.texts, expected.images),
        embed_split(tireid.load(exact, "cpu"), small_data, "val"),
        strict=True,
    ):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, F.normalize(reference, dim=1), rtol=0, atol=1e-6)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(len(found)), rtol=0, atol=1e-6)
        assert (found - other).abs().max() > 1e-4  # bfloat16 did compute


def test_batch_size_changes_nothing_but_rounding(lgur_run, small_data):
    retriever = tireid.load(lgur_run[0], "cpu")
    for one, all_ in zip(
        embed_split(retriever, small_data, "val", batch_size=1),
        embed_split(retriever, small_data, "val", batch_size=99),
        strict=True,
    ):
        torch.testing.assert_close(one, all_, rtol=0, atol=1e-6)


def test_images_of_all_kinds_enter_as_in_evaluation(lgur_run, small_data, tmp_path):
    noise = torch.randint(0, 255, (40, 20, 3), generator=torch.Generator().manual_seed(0))
    picture = Image.fromarray(noise.byte().numpy())
    rotated = Image.Exif()
    rotated[0x0112] = 6  # to be turned by 90 degrees
    picture.save(tmp_path / "turned.jpg", exif=rotated, quality=95)
    picture.convert("L").save(tmp_path / "grey.png")
    picture.quantize(16).save(tmp_path / "palette.png", transparency=3)
    picture.convert("RGBA").save(tmp_path / "rgba.png")
    picture.convert("CMYK").save(tmp_path / "cmyk.jpg")
    paths = sorted(tmp_path.iterdir())
    config = evaluation_config(lgur_run[0])
    model = restore_model(config, *find_run(str(lgur_run[0]))).eval()
    with torch.no_grad():
        pixels = torch.stack([small_data.eval_image_transform(path) for path in paths])
        expected = model.encode_image(pixels)
    retriever = tireid.load(lgur_run[0], "cpu")
    opened = [Image.open(path) for path in paths]
    for given in (paths, [str(path) for path in paths], opened):
        found = retriever.encode_image(given)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    picture.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "upright.png")
    picture.save(tmp_path / "as_stored.png")
    names = ("turned.jpg", "upright.png", "as_stored.png")
    turned, upright, stored = (small_data.eval_image_transform(tmp_path / name) for name in names)
    assert (turned - upright).abs().mean() < 0.5 * (turned - stored).abs().mean()


def test_bytes_arrays_and_tensors_embed_as_the_image_they_are(lgur_run, tmp_path):
    retriever = tireid.load(lgur_run[0], "cpu")
    noise = torch.randint(0, 255, (40, 20, 3), generator=torch.Generator().manual_seed(0)).byte()
    picture = Image.fromarray(noise.numpy())
    picture.save(tmp_path / "a.png")
    expected = retriever.encode_image([picture])
    tensor, content = noise.permute(2, 0, 1), (tmp_path / "a.png").read_bytes()
    for given in (
        [content],
        [noise.numpy()],
        [noise.numpy() / 255],
        [tensor],
        [tensor / 255],
        tensor[None],
        noise.numpy()[None],
    ):
        torch.testing.assert_close(retriever.encode_image(given), expected, rtol=0, atol=1e-6)
    grey = np.asarray(picture.convert("L"))
    expected = retriever.encode_image([picture.convert("L")])
    for given in ([grey], [grey[..., None]], [torch.from_numpy(grey.copy())]):
        torch.testing.assert_close(retriever.encode_image(given), expected, rtol=0, atol=1e-6)


def test_what_cannot_be_read_is_skipped_if_asked_for_and_threads_change_nothing(lgur_run, tmp_path):
    retriever = tireid.load(lgur_run[0], "cpu")
    good = [Image.new("RGB", (20, 60), (40 * number, 90, 20)) for number in range(3)]
    mixed = [good[0], tmp_path / "none.jpg", good[1], b"no image", good[2]]
    with pytest.warns(UserWarning, match=r"2 of 5 skipped: .*none\.jpg: .*; images\[3\]: 8 bytes"):
        found = retriever.encode_image(mixed, 2, num_workers=2, on_error="skip", progress=True)
    assert found.isfinite().all(dim=1).tolist() == [True, False, True, False, True]
    torch.testing.assert_close(found[[0, 2, 4]], retriever.encode_image(good), rtol=0, atol=1e-6)
    for wrong, message in (
        ({"on_error": "stop"}, "raise or skip"),
        ({"num_workers": -1}, "least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            retriever.encode_image(good, **wrong)


def test_lists_and_nothing_else(lgur_run, unchecked, tmp_path):
    retriever = tireid.load(lgur_run[0], "cpu")
    assert retriever.encode_text([]).shape == retriever.encode_image([]).shape == (0, retriever.dim)
    assert retriever.encode_text(["a man"]).shape == (1, retriever.dim)
    picture = Image.new("RGB", (9, 30))
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    faults = [
        (retriever.encode_text, "a man", "captions: expected a list, got one str"),
        (retriever.encode_image, "a.jpg", "images: expected a list, got one str"),
        (retriever.encode_image, picture, "images: expected a list, got one Image"),
        (retriever.encode_image, tmp_path, "images: expected a list, got one PosixPath"),
        (
            retriever.encode_text,
            ["a", "b \ud83d"],
            r"captions\[1\]: expected text, got a lone",
        ),
        (retriever.encode_text, ["a", 3], r"captions\[1\]: expected strings, got a int"),
        (retriever.encode_image, [torch.ones(3)], r"images\[0\]: expected an image as uint8"),
        (retriever.encode_image, [3], r"images\[0\]: expected images \(PIL\), paths, bytes"),
        (retriever.encode_image, torch.ones(3, 9, 9), "images: expected a list, got one Tensor"),
        (retriever.encode_image, [b"no image"], r"images\[0\]: 8 bytes: expected a readable"),
        (retriever.encode_image, [-np.ones((9, 9))], r"images\[0\]: .* got float64 of \(9, 9\)"),
        (retriever.encode_image, [picture, "no.jpg"], r"no\.jpg: expected a readable image; does"),
        (retriever.encode_image, [tmp_path / "cut.png"], r"cut\.png: expected a readable image"),
    ]
    for encode, given, message in faults:
        with pytest.raises(ValueError, match=message):
            encode(given)
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        retriever.encode_text(["a"], batch_size=0)


def test_half_of_a_character_is_no_text(lgur_run):
    retriever = tireid.load(lgur_run[0], "cpu")
    with pytest.raises(ValueError, match=r"captions\[1\]: expected text, got a lone surrogate"):
        retriever.encode_text(["a man", "a \ud83d b"])


def test_a_tokenizer_with_more_ids_than_the_encoder_knows_is_refused(copied_run):
    file = copied_run / "tokenizer" / "tireid_tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"vocab_size": 2001}))
    with pytest.raises(
        ValueError, match="vocab_size: expected at most 2000, the ids that text_enc"
    ):
        tireid.load(copied_run)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta"])
def test_a_device_that_is_not_here_is_refused(lgur_run, device):
    with pytest.raises(ValueError, match=f"device: expected cpu, .* got '{device}'"):
        tireid.load(lgur_run[0], device)


def test_whole_numbers_are_no_weights_where_fractions_are_expected(copied_run):
    path = find_run(str(copied_run))[1]
    state = read_weights(path)
    changed = copied_run / "checkpoints" / "changed.ckpt"
    torch.save(
        {"state_dict": state | {"head.dictionary": state["head.dictionary"].long()}}, changed
    )
    message = r"1 of another kind \(head\.dictionary is torch\.int64, expected torch\.float32\)"
    with pytest.raises(ValueError, match=message):
        tireid.load(changed)


def test_an_image_cut_off_after_it_was_opened_is_named(lgur_run, tmp_path):
    noise = torch.randint(0, 255, (200, 90, 3), dtype=torch.uint8).numpy()
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:3000])
    with (
        Image.open(tmp_path / "a.jpg") as picture,
        pytest.raises(ValueError, match="expected a readable image"),
    ):
        tireid.load(lgur_run[0], "cpu").encode_image([picture])


def test_loading_draws_no_random_numbers_and_needs_no_hub_and_no_data(untrained_run):
    folder = untrained_run("model=baseline", *ENCODERS["baseline"])
    expected = tireid.load(folder, "cpu").encode_text(["a man"])
    settings = OmegaConf.load(folder / "config.yaml")
    settings.image_encoder.module.pretrained = "nobody/nothing"
    settings.text_encoder.module.embedding.pretrained = "nobody/nothing"
    settings.paths.cache_dir = "/nowhere"
    OmegaConf.save(settings, folder / "config.yaml")
    before = torch.get_rng_state()
    assert torch.equal(tireid.load(folder, "cpu").encode_text(["a man"]), expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_importing_is_cheap():
    code = "import sys, tireid; sys.exit('torch' in sys.modules or 'load' not in tireid.__all__)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert tireid.load is tireid.inference.retriever.load
    with pytest.raises(AttributeError, match="no attribute 'download'"):
        _ = tireid.download


@pytest.mark.slow
def test_a_model_that_embeds_imports_what_it_computes_with_and_no_more(lgur_run):
    heavy = ["lightning", "torchmetrics", "torch._dynamo", "transformers", "matplotlib", "sympy"]
    code = f"""
import sys, tireid
tireid.load({str(lgur_run[0])!r}, "cpu").encode_text(["a woman in a red coat"])
sys.exit(", ".join(name for name in {heavy} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_what_a_path_may_name(lgur_run, copied_run, tmp_path):
    folder, _ = lgur_run
    last = folder / "checkpoints" / "last.ckpt"
    assert find_saved(last) == find_run(str(last)) == (folder, last)
    assert find_run(str(folder))[1].name.startswith("epoch")
    record = json.loads((copied_run / "metrics.json").read_text())
    (copied_run / "metrics.json").write_text(json.dumps(record | {"tested_checkpoint": ""}))
    assert find_run(str(copied_run))[1].name.startswith("epoch")  # stopped before its test
    (copied_run / "metrics.json").write_text(json.dumps({"tested_checkpoint": "gone.ckpt"}))
    with pytest.raises(FileNotFoundError, match=r"gone\.ckpt: expected the checkpoint"):
        tireid.load(copied_run)
    (copied_run / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match=r"metrics\.json: expected a run's record"):
        tireid.load(copied_run)
    with pytest.raises(ValueError, match="set run="):
        find_run(None)
    with pytest.raises(FileNotFoundError, match="expected a run folder with checkpoints"):
        find_run(str(tmp_path))
    for nothing in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileNotFoundError, match="expected an exported folder with model"):
            tireid.load(nothing)
    (copied_run / "metrics.json").unlink()
    (copied_run / "config.yaml").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected config\.yaml"):
        tireid.load(copied_run)


class Trap:
    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return (os.mkdir, (str(self.place),))


def test_broken_and_hostile_checkpoints_are_refused(copied_run, tmp_path):
    path, trap = copied_run / "checkpoints" / "a.ckpt", tmp_path / "trap"
    hostile = pickle.dumps({"state_dict": {"a": Trap(trap)}})
    for content in (b"", b"not a checkpoint", hostile):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.ckpt: expected the weights of a training run"):
            tireid.load(path)
    for content in ({"weights": {}}, {"state_dict": {"a": 1.0}}, [1]):
        torch.save(content, path)
        with pytest.raises(ValueError, match=r"a\.ckpt: expected the weights of a training run"):
            tireid.load(path)
    assert not trap.exists()


def test_weights_fit_exactly_but_for_the_identity_heads(copied_run):
    path = find_run(str(copied_run))[1]
    state = read_weights(path)
    config = inference_config(copied_run)

    def without(name):
        return {key: value for key, value in state.items() if key != name}

    changed = copied_run / "checkpoints" / "changed.ckpt"
    for good in (without("classifier_bias"), state | {"classifier_weight": torch.zeros(1)}):
        torch.save({"state_dict": good}, changed)
        restore_model(config, copied_run, changed)
    faults = {
        r"1 left over \(stray\)": state | {"stray": torch.zeros(1)},
        r"1 missing \(head\.dictionary\)": without("head.dictionary"),
        r"of another shape \(head\.dictionary is \(3,\)": state
        | {"head.dictionary": torch.zeros(3)},
    }
    for message, bad in faults.items():
        torch.save({"state_dict": bad}, changed)
        with pytest.raises(ValueError, match=rf"changed\.ckpt: does not fit .*{message}"):
            tireid.load(changed)


def mkdir(place):
    return {"_target_": "os.mkdir", "path": str(place)}


FOREIGN = {
    "model": lambda trap: mkdir(trap),  # the method itself
    "model._target_": lambda trap: "builtins.exec",
    "model.head.trap": lambda trap: mkdir(trap),
    "model.head": lambda trap: [[mkdir(trap) | {"_partial_": True}]],
    "model.weights": lambda trap: {"_target_": "tireid.losses.identity.identity_loss"},
    "image_encoder.mean": lambda trap: [0.5, 0.5, mkdir(trap)],
    "image_encoder.module._target_": lambda trap: "tireid.encoders.vit.torch.hub.load",
    "image_encoder.module.stem": lambda trap: "${oc.env:HOME}",
    "image_encoder.module._args_": lambda trap: ["nobody/nothing"],
    "image_encoder.module._partial_": lambda trap: [None],
    "image_encoder.module._recursive_": lambda trap: 3,
    "text_encoder.module._target_": lambda trap: "tireid.data.images.os.mkdir",
    "text_encoder.module.embedding": lambda trap: {"_target_": "tireid.data.tokenizers.Tokenizer"},
    "text_encoder.module.embedding._target_": lambda trap: ["tireid.encoders.bert.BertEncoder"],
    "text_encoder.module.hidden": lambda trap: {"_target_": "tireid.data.images.verify_images"},
    "model.identity_weight": lambda trap: {
        "_target_": "tireid.data.synthetic.read_synthetic",
        "cache_dir": str(trap),
    },
    "model.alignment": lambda trap: {"_target_": "tireid.losses.ranking.nn"},
    "dataset.image_size": lambda trap: {"_target_": "tireid.files.write_json"},
    "dataset.name": lambda trap: "${oc.create:{_target_: os.mkdir}}",
    "trainer.precision": lambda trap: {"_target_": "tireid.encoders.nothing.Nobody"},
}


@pytest.mark.parametrize("place", FOREIGN)
def test_foreign_names_are_refused_before_anything_is_built(
    copied_run, compose_config, tmp_path, place, monkeypatch
):
    trap = tmp_path / "trap"
    settings = OmegaConf.to_container(OmegaConf.load(copied_run / "config.yaml"))
    *sections, last = place.split(".")
    section = settings
    for name in sections:
        section = section[name]
    section[last] = FOREIGN[place](trap)
    OmegaConf.save(OmegaConf.create(settings), copied_run / "config.yaml")
    monkeypatch.setattr("tireid.inference.build.instantiate", lambda *_, **__: pytest.fail("built"))
    message = rf"config\.yaml: {place.replace('.', '[.]')}.*: expected "
    with pytest.raises(ValueError, match=message):
        tireid.load(copied_run)
    with pytest.raises(ValueError, match=message):
        tireid.training.evaluate.evaluate(compose_config(f"run={copied_run}", name="evaluate"))
    assert not trap.exists()


def test_metrics_of_a_run_that_cannot_be_written_to_are_shown(
    lgur_run, copied_run, compose_config, capsys, monkeypatch
):
    cfg = compose_config(f"run={copied_run}", "accelerator=cpu", name="evaluate")
    expected = {n: v for n, v in lgur_run[1].items() if n.startswith("test/")}
    before = sorted(path.name for path in copied_run.iterdir())
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.warns(UserWarning, match="run cannot be written to: the metrics above are not ke"):
        assert tireid.training.evaluate.evaluate(cfg) == expected
    assert "text to image" in capsys.readouterr().out
    assert sorted(path.name for path in copied_run.iterdir()) == before

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.undo()
    monkeypatch.setattr("tireid.files.os.fsync", full)
    for file in copied_run.glob("evaluation_*"):
        file.unlink()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert tireid.training.evaluate.evaluate(cfg) == expected
    for name, warning in zip(("queries", "gallery", "evaluation"), caught, strict=True):
        assert re.search(rf"{name}_test_\S+: could not be written", str(warning.message))
    assert "text to image" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["model", "image_encoder.module"])
def test_a_class_of_ones_own_is_refused_with_what_to_do(copied_run, compose_config, place):
    settings = OmegaConf.load(copied_run / "config.yaml")
    OmegaConf.update(settings, f"{place}._target_", "mine.Model")
    OmegaConf.save(settings, copied_run / "config.yaml")
    message = rf"{place}\._target_: expected a .*, got 'mine\.Model'; nothing .*If it is yours"
    with pytest.raises(ValueError, match=message):
        tireid.training.evaluate.evaluate(compose_config(f"run={copied_run}", name="evaluate"))


def test_evaluate_refuses_a_foreign_reader_which_load_does_not_need(
    copied_run, compose_config, tmp_path
):
    settings = OmegaConf.load(copied_run / "config.yaml")
    settings.dataset.read = mkdir(tmp_path / "trap") | {"_partial_": True}
    settings.callbacks.trap = mkdir(tmp_path / "trap")  # neither of the two builds callbacks
    OmegaConf.save(settings, copied_run / "config.yaml")
    message = (
        r"config\.yaml: dataset\.read\._target_: expected a function of tireid\.data that reads a "
        r"data set, got 'os\.mkdir'"
    )
    with pytest.raises(ValueError, match=message):
        tireid.training.evaluate.evaluate(compose_config(f"run={copied_run}", name="evaluate"))
    assert tireid.load(copied_run, "cpu").encode_text(["a man"]).shape[0] == 1
    assert not (tmp_path / "trap").exists()


def parsed_by_whatever_name(**_):
    raise NotImplementedError


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("dataset.read", "tireid.losses.identity.identity_loss"),
        ("dataset.read", "tireid.data.records.Record"),
        ("dataset.pad", "tireid.data.synthetic.read_synthetic"),
    ],
)
def test_only_a_function_of_tireid_data_reads_and_only_there(copied_run, key, target):
    settings = OmegaConf.load(copied_run / "config.yaml")
    OmegaConf.update(settings, key, {"_target_": target}, merge=False)
    OmegaConf.save(settings, copied_run / "config.yaml")
    with pytest.raises(ValueError, match=rf"{key}\._target_: expected a .*, got '{target}'"):
        evaluation_config(copied_run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_partial_": False}, r"dataset\.read\._partial_: expected true, got False"),
        (
            {"_target_": "tireid.data.images.verify_images"},
            "expected a function of tireid.data that",
        ),
        ({"_target_": "tireid.data.cuhk_pedes.read_cuhk_pedes"}, "expected a reader's arguments"),
        ({"cache_dir": 5}, r"dataset\.read\.cache_dir: expected text or null, got 5"),
        ({"image_size": 5}, r"dataset\.read: expected a reader's arguments"),
    ],
)
def test_a_reader_is_not_called_before_it_is_asked_for(copied_run, compose_config, change, message):
    settings = OmegaConf.load(copied_run / "config.yaml")
    settings.dataset.read.update(change)
    OmegaConf.save(settings, copied_run / "config.yaml")
    with pytest.raises(ValueError, match=message):
        tireid.training.evaluate.evaluate(compose_config(f"run={copied_run}", name="evaluate"))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("selection", "best", "selection: expected one of val, last, test, got 'best'"),
        ("seed", "one", "seed: expected a whole number, got 'one'"),
        ("batch_size", None, "batch_size: expected a"),
        ("dataset.counts", {"train": 5}, r"dataset\.counts\.train: expected a mapping, got 5"),
        ("dataset.read", {}, r"dataset\.read\._target_: expected a function"),
        ("dataset._target_", "tireid.data.records.Record", r"expected a data set's settings"),
        ("paths", "here", "paths: expected a mapping or null, got 'here'"),
    ],
)
def test_settings_of_an_evaluation_are_checked(copied_run, compose_config, place, value, message):
    settings = OmegaConf.load(copied_run / "config.yaml")
    OmegaConf.update(settings, place, value, merge=False)
    OmegaConf.save(settings, copied_run / "config.yaml")
    with pytest.raises(ValueError, match=rf"config\.yaml: {message}"):
        tireid.training.evaluate.evaluate(compose_config(f"run={copied_run}", name="evaluate"))


def test_a_synthetic_set_is_drawn_in_the_callers_cache_only(
    lgur_run, copied_run, compose_config, tmp_path
):
    stranger, own = tmp_path / "stranger", tmp_path / "own"
    settings = OmegaConf.load(copied_run / "config.yaml")
    settings.dataset.read.cache_dir = settings.paths.cache_dir = str(stranger)
    OmegaConf.save(settings, copied_run / "config.yaml")
    metrics = tireid.training.evaluate.evaluate(
        compose_config(f"run={copied_run}", f"paths.cache_dir={own}", name="evaluate")
    )
    assert metrics == {n: v for n, v in lgur_run[1].items() if n.startswith("test/")}
    assert not stranger.exists()
    assert list(own.glob("cuhk_pedes-*/reid_raw.json"))


@pytest.mark.parametrize("module", ["tireid.data.cuhk_pedes", "tireid.data"])
def test_a_reader_may_have_any_name_below_tireid_data(copied_run, monkeypatch, module):
    monkeypatch.setattr(parsed_by_whatever_name, "__module__", "tireid.data.cuhk_pedes")
    monkeypatch.setattr(f"{module}.parse_mine", parsed_by_whatever_name, raising=False)
    settings = OmegaConf.load(copied_run / "config.yaml")
    settings.dataset.read = {"_target_": f"{module}.parse_mine", "_partial_": True}
    OmegaConf.save(settings, copied_run / "config.yaml")
    assert evaluation_config(copied_run).dataset.read == settings.dataset.read


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "model: expected a method's settings"),
        ("- 1", "expected a config, got a list"),
        ("model: [", "expected a config, got what cannot be read"),
        ("\x00", "expected a config, got what cannot be read"),
        ("model: !!python/object/apply:os.mkdir [TRAP]", "got what cannot be read"),
        ("model: &a\n  b: *a", "got what cannot be read"),
        (
            "model: {_target_: tireid.methods.lgur.Lgur}",
            r"image_encoder\.module: expected a value, got none",
        ),
    ],
)
def test_what_is_no_config_is_named(copied_run, tmp_path, content, message):
    trap = tmp_path / "trap"
    (copied_run / "config.yaml").write_text(content.replace("TRAP", str(trap)))
    with pytest.raises(ValueError, match=rf"config\.yaml: .*{message}"):
        tireid.load(copied_run)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("text_encoder.module.hidden", 2**20, r"does not fit the .*of another shape"),
        ("text_encoder.module.embedding.vocab_size", 2**40, "of another shape"),
        ("text_encoder.module.embedding.depth", 10**9, "at most 5,000 tensors"),
        ("image_encoder.module.depth", 10**9, "at most 5,000 tensors"),
    ],
)
def test_a_config_that_asks_for_too_much_is_refused_before_it_gets_it(
    untrained_run, tmp_path, place, value, message
):
    folder = shutil.copytree(
        untrained_run("model=baseline", *ENCODERS["baseline"]), tmp_path / "run"
    )
    settings = OmegaConf.load(folder / "config.yaml")
    OmegaConf.update(settings, place, value)
    OmegaConf.save(settings, folder / "config.yaml")
    with pytest.raises(ValueError, match=rf"(?s){message}"):
        tireid.load(folder, "cpu")


def test_settings_that_fit_nothing_are_named(copied_run):
    good = OmegaConf.load(copied_run / "config.yaml")
    faults = {
        "image_encoder.module.colour": ("red", r"config\.yaml: expected a model's settings.*colou"),
        "model._target_": ("tireid.encoders.vit.ViTEncoder", r"model\._target_: expected a method"),
        "trainer.precision": ("8-bit", r"precision: expected one of .*32-true.*, got '8-bit'"),
        "dataset.image_size": ([0, 4], r"image_size: expected"),
        "image_encoder.module.color": (["a"] * 999, r"config\.yaml: [^\n]{1,1200}$"),
        "image_encoder.interpolation": ("best", "interpolation: expected one of"),
    }
    for place, (value, message) in faults.items():
        settings = good.copy()
        OmegaConf.update(settings, place, value)
        OmegaConf.save(settings, copied_run / "config.yaml")
        with pytest.raises(ValueError, match=rf"(?s){message}"):
            tireid.load(copied_run, "cpu")


@pytest.fixture(scope="module", params=[1e38, 0.0])
def absurd_run(untrained_run, request):
    """Return a run folder with weights so large that all it computes is infinite, or all zero."""
    folder = untrained_run("model=baseline")
    file = folder / "checkpoints" / "last.ckpt"
    content = torch.load(file)
    for value in content["state_dict"].values():
        if value.is_floating_point():
            value.fill_(request.param)
    torch.save(content, file)
    return folder


def test_weights_whose_embeddings_have_no_direction_are_refused_where_these_are_made(
    absurd_run, compose_config, small_data, tmp_path
):
    refused = pytest.raises(ValueError, match=r"last\.ckpt: expected weights that give finite emb")
    retriever = tireid.load(absurd_run, "cpu")
    with refused:
        retriever.encode_text(["a"])
    with refused:
        retriever.encode_image([small_data.records("test")[0].image_path])
    options = IndexOptions(model=str(absurd_run), device="cpu")
    with refused:
        build_index([small_data.records("test")[0].image_path], tmp_path / "index", options)
    output = tmp_path / "export"
    for command, setting in (
        (tireid.training.evaluate.evaluate, "accelerator=cpu"),
        (explain, "accelerator=cpu"),
        (export, f"output={output}"),
    ):
        with refused:
            command(compose_config(f"run={absurd_run}", setting, name=command.__name__))
    assert not output.exists()


@pytest.mark.parametrize("vector", [[math.nan, 1.0], [0.0, 0.0], [math.inf, 0.0]])
def test_embeddings_without_a_direction_are_refused(lgur_run, monkeypatch, vector):
    retriever = tireid.load(lgur_run[0], "cpu")
    monkeypatch.setattr(retriever, "_embed_texts", lambda texts: torch.tensor([[0.6, 0.8], vector]))
    with pytest.raises(ValueError, match="NaN, Inf or zero in 1 of 2"):
        retriever.encode_text(["a", "b"])


@pytest.mark.parametrize("allowed", [True, False, None])
def test_tf32_is_that_of_the_runs_recipe(copied_run, monkeypatch, allowed):
    cfg = OmegaConf.load(copied_run / "config.yaml")
    if allowed is None:  # a run of an earlier version
        del cfg["tf32"]
    else:
        cfg.tf32 = allowed
    OmegaConf.save(cfg, copied_run / "config.yaml")
    retriever, seen = tireid.load(copied_run, "cpu"), []

    def embed(texts):
        seen.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))
        return torch.eye(len(texts))

    monkeypatch.setattr(retriever, "_embed_texts", embed)
    retriever.encode_text(["a"])
    assert seen == [("highest", False) if allowed is False else ("high", True)]
