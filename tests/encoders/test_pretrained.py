import json
import os
import zipfile

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from tireid.encoders.pretrained import load_exactly, read_pretrained


@pytest.mark.parametrize("content", [None, "folder", "config.json", "weights"])
def test_unreadable_names_the_source_and_the_way_out(content, tmp_path):
    source = tmp_path / "deit"
    if content is not None:
        source.mkdir()
    if content in {"config.json", "weights"}:
        BertConfig(num_hidden_layers=1).save_pretrained(source)
    if content == "weights":
        (source / "model.safetensors").write_bytes(b"this is no safetensors file")
    with pytest.raises(ValueError, match="save_pretrained, or `pretrained=false`") as error:
        read_pretrained("AutoModel", str(source))
    assert str(source) in str(error.value)


SIZES = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}


def pipe(folder):
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


def bomb(folder):
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))


def elsewhere(folder):
    content = {"metadata": {}, "weight_map": {"a": "../../other.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


def infinite(folder):
    model = BertModel(BertConfig(**SIZES, intermediate_size=8))
    model.embeddings.word_embeddings.weight.data[0] = torch.inf
    model.save_pretrained(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (pipe, "model.safetensors: expected a regular file, got a pipe"),
        (bomb, "pytorch_model.bin: damaged .compressed parts"),
        (elsewhere, "weight_map: expected names of files, got '../../other.safetensors'"),
        (lambda f: (f / "config.json").write_text("[" * 10_000), "config.json: .*levels of nest"),
        (infinite, "holds numbers that are not finite in embeddings.word_embeddings.weight"),
    ],
)
def test_files_of_a_folder_are_bounded_like_any_other(tmp_path, damage, message):
    BertModel(BertConfig(**SIZES, intermediate_size=8)).save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_pretrained("BertModel", str(tmp_path))


def test_a_checkpoint_without_all_weights_is_refused(tmp_path):
    config = BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    model = BertModel(config)
    state = {
        key: value for key, value in model.state_dict().items() if "layer.0.attention" not in key
    }
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(ValueError, match=r"lacks 10 weights of BertModel \(encoder.layer.0.att"):
        read_pretrained("BertModel", str(tmp_path))


def test_every_misfit_is_named():
    module = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="'here' do not fit this Linear") as error:
        load_exactly(module, {"weight": torch.zeros(2, 4), "extra": torch.zeros(1)}, "here")
    assert "1 missing (bias)" in str(error.value)
    assert "1 left over (extra)" in str(error.value)
    assert "weight is (2, 4), expected (2, 3)" in str(error.value)


def test_a_long_list_of_misfits_is_cut():
    module = nn.Sequential(*[nn.Linear(1, 1) for _ in range(6)])
    with pytest.raises(
        ValueError, match=r"12 missing \(0.bias, 0.weight, 1.bias, 1.weight, 2.bias, and 7 more\)"
    ):
        load_exactly(module, {}, "here")


def test_a_fitting_state_is_copied():
    module = nn.Linear(3, 2)
    state = {"weight": torch.ones(2, 3), "bias": torch.full((2,), 4.0)}
    load_exactly(module, state, "here")
    assert torch.equal(module(torch.ones(1, 3)), torch.full((1, 2), 7.0))
