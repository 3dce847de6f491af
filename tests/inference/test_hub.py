"""A CLIP and a SigLIP 2 as they are embed as the library's own model and processor do."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch.nn import functional as F

import tireid
from tireid.inference.hub import hub_config, is_hub_model
from tireid.search.index import Index
from tireid.search.indexing import IndexOptions, build_index
from tireid.training.evaluate import evaluate

CAPTIONS = ["A woman in a RED coat, with a bag.", "a man", "so many words " * 12]
SIZES = ((60, 140), (33, 70), (90, 50), (36, 36))


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number, (width, height) in enumerate(SIZES):
        pixels = generator.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((width, height)).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def by_the_library(folder, images, captions):
    """Embeddings of the library's own model on its own processor's output."""
    siglip = transformers.AutoConfig.from_pretrained(folder).model_type == "siglip"
    model_class = transformers.SiglipModel if siglip else transformers.CLIPModel
    model = model_class.from_pretrained(folder).eval()
    name = "SiglipImageProcessorPil" if siglip else "CLIPImageProcessorPil"
    processor = getattr(transformers, name).from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if siglip:  # as its model card tells
        captions = [caption.lower() for caption in captions]
        words = {"padding": "max_length", "max_length": 64}
    else:
        words = {"padding": True, "max_length": 20}
    opened = [Image.open(path).convert("RGB") for path in images]
    with torch.no_grad():
        pixels = processor(opened, return_tensors="pt")
        found = model.get_image_features(**pixels).pooler_output
        ids = tokenizer(captions, truncation=True, return_tensors="pt", **words)
        texts = model.get_text_features(**ids).pooler_output
    return F.normalize(found, dim=-1), F.normalize(texts, dim=-1)


@pytest.fixture(params=["clip", "siglip"])
def folder(request):
    return request.getfixturevalue(f"{request.param}_folder")


def test_a_folder_of_the_library_embeds_as_its_own_model_and_processor(folder, pictures):
    retriever = tireid.load(folder, "cpu")
    images, texts = by_the_library(folder, pictures, CAPTIONS)
    torch.testing.assert_close(retriever.encode_image(pictures), images, atol=1e-5, rtol=0)
    torch.testing.assert_close(retriever.encode_text(CAPTIONS), texts, atol=1e-5, rtol=0)


def test_an_index_of_a_folder_of_the_library_holds_the_same(folder, pictures, tmp_path):
    options = IndexOptions(model=str(folder), device="cpu", workers=0, storage="float32")
    build_index([pictures[0].parent], tmp_path / "gallery", options)
    images, texts = by_the_library(folder, pictures, CAPTIONS)
    with Index.open(tmp_path / "gallery", device="cpu") as index:
        found = index.search(CAPTIONS[0], k=4)
    assert index.settings.trained_on == "hub"
    scores = {result.path: result.score for result in found}
    expected = images @ texts[0]
    for path, score in zip(pictures, expected.tolist(), strict=True):
        assert scores[path] == pytest.approx(score, abs=1e-5)


def test_a_size_behind_the_name_resizes_the_whole_image(clip_folder, pictures):
    whole = tireid.load(f"{clip_folder}@48x16", "cpu")
    assert (whole.image_size, whole.shortest_edge) == ((48, 16), None)
    as_it_is = tireid.load(clip_folder, "cpu")
    assert (as_it_is.image_size, as_it_is.shortest_edge) == ((32, 32), 36)
    assert whole.fingerprint != as_it_is.fingerprint
    assert whole.encode_image(pictures).shape == (4, 16)


def test_an_untrained_model_is_evaluated_on_a_data_set(
    folder, compose_config, cache_dir, small_data, capsys
):
    world = [f"dataset.read.num_{split}_ids={n}" for split, n in (("train", 8), ("val", 3))]
    cfg = compose_config(
        f"run={folder}",
        "dataset=synthetic",
        f"paths.cache_dir={cache_dir}",
        "dataset.read.num_test_ids=4",
        "dataset.read.images_per_id=2",
        "accelerator=cpu",
        *world,
        name="evaluate",
    )
    before = sorted(folder.iterdir())
    metrics = evaluate(cfg)
    records = small_data.records("test")
    images, texts = by_the_library(
        folder,
        [record.image_path for record in records],
        [caption for record in records for caption in record.captions],
    )
    pids = torch.tensor([record.pid for record in records])
    asked = torch.tensor([record.pid for record in records for _ in record.captions])
    best = (texts @ images.T).argmax(dim=1)
    assert metrics["test/R1"] == pytest.approx(100 * (pids[best] == asked).float().mean().item())
    assert "not trained" in capsys.readouterr().out
    assert sorted(folder.iterdir()) == before


def test_without_a_data_set_the_message_says_what_to_set(clip_folder, compose_config):
    with pytest.raises(ValueError, match="dataset=synthetic, custom, cuhk_pedes"):
        evaluate(compose_config(f"run={clip_folder}", name="evaluate"))


@pytest.mark.parametrize("name", ["nobody/no-such-model", "nobody/no-such-model@384x128"])
def test_a_name_that_is_neither_cached_nor_to_be_had_is_one_message(name, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert is_hub_model(name)
    with pytest.raises(FileNotFoundError, match=r"model 'nobody/no-such-model': expected a run"):
        tireid.load(name)


def test_paths_and_runs_are_no_hub_models(tmp_path, monkeypatch, untrained_run):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for path in ("runs/mistyped", "lgur", str(tmp_path / "nothing"), untrained_run("model=lgur")):
        assert not is_hub_model(path)


def _set(**values):
    def change(folder):
        content = json.loads((folder / "config.json").read_text())
        content["text_config"] |= values
        (folder / "config.json").write_text(json.dumps(content))

    return change


def _elsewhere(folder):
    (folder / "config.json").rename(folder.parent / "config.json")
    (folder / "config.json").symlink_to(folder.parent / "config.json")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_elsewhere, "expected a file inside .*clip, got a link to"),
        (_set(vocab_size=3), "expected a tokenizer of at most vocab_size=3 ids"),
        (_set(vocab_size=10**12), "numbers, got files of .* bytes"),
        (_set(max_position_embeddings=-1), "max_length: expected at least 3 ids, got -1"),
        (lambda f: os.truncate(f / "model.safetensors", 2**17), "can be built: .*cannot read"),
    ],
)
def test_files_that_do_not_fit_the_settings_are_one_message(clip_folder, tmp_path, damage, message):
    folder = shutil.copytree(clip_folder, tmp_path / "clip")
    damage(folder)
    with pytest.raises(ValueError, match=message):
        tireid.load(folder, "cpu")


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"model_type": "siglip2"}, "model_type: expected clip, or siglip"),
        ("config.json", {"model_type": None}, "model_type: expected clip, or siglip"),
        ("config.json", {"vision_config": {"layer_norm_eps": 0.5}}, "layer_norm_eps: expected"),
        ("config.json", {"vision_config": 3}, "expected the settings of a CLIPConfig"),
        ("processor_config.json", {"do_resize": False}, "do_resize: expected True"),
        ("processor_config.json", {"rescale_factor": 1.0}, "rescale_factor: expected 1/255"),
        ("processor_config.json", {"crop_size": 64}, "crop_size: expected at most 36"),
        ("processor_config.json", {"size": {"longest_edge": 9}}, "expected size"),
    ],
)
def test_what_the_encoders_do_not_know_is_refused(clip_folder, tmp_path, file, change, message):
    changed = shutil.copytree(clip_folder, tmp_path / "clip")
    content = json.loads((changed / file).read_text())
    (content["image_processor"] if file.startswith("processor") else content).update(change)
    (changed / file).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        hub_config(changed)
