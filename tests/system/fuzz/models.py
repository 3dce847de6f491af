"""Cases of other people's models: folders of the hub, and checkpoints of official codes."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from case import Case, Place
from files import (
    REFUSED,
    mutate_bytes,
    mutate_checkpoint,
    mutate_kind,
    mutate_safetensors,
    mutate_text_file,
    mutate_zip,
)

_TESTS = Path(__file__).resolve().parents[2]
_TOWER = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
}
_IMAGE = ["image_encoder.module={dim:12,heads:3,depth:2,out_dim:8}", "dataset.image_size=[48,16]"]


def write_hub_model(folder: Path) -> int:
    """Write a CLIP of random weights as the library saves it; return its number of words."""
    import transformers
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    start, end = len(words) - 2, len(words) - 1
    text = {"vocab_size": len(words), "max_position_embeddings": 20, "projection_dim": 16}
    config = transformers.CLIPConfig(
        text_config=_TOWER | text | {"bos_token_id": start, "eos_token_id": end},
        vision_config=_TOWER | {"image_size": 32, "patch_size": 8, "projection_dim": 16},
        projection_dim=16,
    )
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(folder)
    tokenizer = transformers.CLIPTokenizer({word: n for n, word in enumerate(words)}, [])
    images = transformers.CLIPImageProcessorPil(size={"shortest_edge": 36}, crop_size=32)
    transformers.CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return len(words)


def write_official(folder: Path, words: int) -> None:
    """Write a small checkpoint of each official code, as the tests of the conversion make them."""
    folder.mkdir()
    irra = runpy.run_path(str(_TESTS / "methods" / "irra" / "test_convert.py"))["SIZES"]
    weights = runpy.run_path(str(_TESTS / "methods" / "irra" / "conftest.py"))["official_weights"]
    torch.save({"model": weights(irra | {"words": words})}, folder / "irra.pth")
    rde = runpy.run_path(str(_TESTS / "methods" / "rde" / "test_convert.py"))["SIZES"]
    weights = runpy.run_path(str(_TESTS / "methods" / "rde" / "conftest.py"))["random_weights"]
    state = weights(rde | {"words": words}, torch.float32)
    torch.save({"model": state, "optimizer": {}, "epoch": 3}, folder / "rde.pth")


def converting(source: str, file: Path, hub: Path, output: Path) -> list[str]:
    """Return the command line that converts a checkpoint of `write_official`."""
    words = json.loads((hub / "config.json").read_text())["text_config"]["vocab_size"]
    length = 60 if source == "irra" else 20
    text = f"dim:6,heads:2,depth:2,out_dim:8,vocab_size:{words},max_positions:{length}"
    settings = [f"text_encoder.module={{{text}}}", f"text_encoder.tokenizer.max_length={length}"]
    mask = f"mask_id:{words - 3},first_word:1,end_word:{words - 3},num_ids:{words}"
    own = {
        "irra": ["model.relation={heads:4,depth:3}", f"text_encoder.words={{{mask}}}"],
        "rde": ["model.token_dim=10", f"model.text_length={length}"],
    }
    places = [str(file), f"output={output}", f"tokenizer={hub}"]
    return ["convert", "--from", source, *places, *_IMAGE, *settings, *own[source]]


def make_hub(rng: Random, place: Place) -> Case:
    """Draw a case of a folder in the hub's layout: loaded, or indexed with."""
    folder = place.copied("hub", "hub")
    file = rng.choice(sorted(folder.iterdir()))
    kind = rng.random()
    if kind < 0.2:
        what, expected = mutate_kind(file, rng, place.outside)
    elif kind < 0.35:
        what, expected = mutate_bytes(file, rng)
    elif file.suffix == ".safetensors":
        what, expected = mutate_safetensors(file, rng)
    else:
        what, expected = mutate_text_file(file, rng, place.outside)
    images = place.samples / "data" / "cuhk_pedes" / "imgs"
    index = ["index", str(images), "--out", str(place.inside / "new"), "--model", str(folder)]
    options = ["--device", "cpu", "--workers", "0"]
    command = ["load", str(folder)] if rng.random() < 0.8 else [*index, *options]
    return Case(f"hub: {file.name}: {what}", command, expected)


def make_official(rng: Random, place: Place) -> Case:
    """Draw a case of a checkpoint of an official code, to be converted."""
    source = rng.choice(["irra", "rde"])
    file = place.copied("official", "official") / f"{source}.pth"
    damages: list[Callable[..., Any]] = [mutate_checkpoint] * 6
    damage = rng.choice([*damages, mutate_kind, mutate_zip, mutate_bytes])
    # Whoever types a path may name a link.
    arguments = {mutate_checkpoint: (place.outside,), mutate_kind: (None,)}.get(damage, ())
    what, expected = damage(file, rng, *arguments)
    command = converting(source, file, place.samples / "hub", place.inside / "new")
    if not file.exists():
        expected = REFUSED
    return Case(f"official {source}: {what}", command, expected)
