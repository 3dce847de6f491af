"""A converted official checkpoint is a run folder that `evaluate` takes."""

import json

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from transformers import BertConfig, BertModel

import tireid
from tireid.inference.convert import OWN_SETTINGS, convert
from tireid.inference.export import export
from tireid.methods.lgur.official import read_lgur
from tireid.training.evaluate import evaluate

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{x}" for x in LETTERS)]
WORDS, POSITIONS, BERT_DIM, DIM, PIDS = len(VOCABULARY), 60, 8, 12, 5
SIZES = [
    "dataset.image_size=[48,16]",
    f"image_encoder.module.dim={DIM}",
    "image_encoder.module.depth=3",
    "image_encoder.module.trunk_depth=2",
    "image_encoder.module.heads=3",
    f"text_encoder.module.hidden={DIM}",
    f"text_encoder.module.embedding.vocab_size={WORDS}",
    f"text_encoder.module.embedding.dim={BERT_DIM}",
    "text_encoder.module.embedding.depth=1",
    "text_encoder.module.embedding.heads=2",
    f"text_encoder.module.embedding.max_positions={POSITIONS}",
    f"text_encoder.tokenizer.max_length={POSITIONS}",
    "model.head.dictionary_size=5",
    "model.head.dictionary_heads=2",
    "model.head.dictionary_head_dim=4",
    "model.head.dictionary_hidden_dim=9",
    "model.head.num_prototypes=2",
    "model.head.prototype_heads=2",
    "model.head.prototype_head_dim=3",
    "model.head.prototype_hidden_dim=7",
    "model.head.feature_dim=6",
]


def small_bert():
    return BertModel(
        BertConfig(
            vocab_size=WORDS,
            hidden_size=BERT_DIM,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=4 * BERT_DIM,
            max_position_embeddings=POSITIONS,
        )
    )


def official_shapes():
    vit, text = "ImageExtract.model", "TextExtract"
    shapes = {
        "dict_feature": (1, 5, DIM),
        "query_embed_image": (1, 2, DIM),
        "mask.0.weight": (1, DIM),
        "mask.0.bias": (1,),
        f"{vit}.cls_token": (1, 1, DIM),
        f"{vit}.pos_embed": (1, 4, DIM),
        f"{vit}.patch_embed.proj.weight": (DIM, 3, 16, 16),
        f"{vit}.patch_embed.proj.bias": (DIM,),
    }
    for block in (f"{vit}.blocks.{index}" for index in range(3)):
        layers = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
        for layer, (out, into) in layers.items():
            shapes[f"{block}.{layer}.weight"] = (out * DIM, into * DIM)
            shapes[f"{block}.{layer}.bias"] = (out * DIM,)
        for norm in ("norm1", "norm2"):
            shapes |= {f"{block}.{norm}.weight": (DIM,), f"{block}.{norm}.bias": (DIM,)}
    for end in ("l0", "l0_reverse"):
        shapes[f"{text}.lstm.weight_ih_{end}"] = (4 * DIM, BERT_DIM)
        shapes[f"{text}.lstm.weight_hh_{end}"] = (4 * DIM, DIM)
    for decoder, depth, inner, hidden in (("TXTDecoder_2", 1, 8, 9), ("TXTDecoder", 2, 6, 7)):
        for layer in (f"{decoder}.transformer.layers.{index}" for index in range(depth)):
            shapes |= {
                f"{layer}.0.fn.norm.weight": (DIM,),
                f"{layer}.0.fn.norm.bias": (DIM,),
                f"{layer}.0.fn.fn.to_q.weight": (inner, DIM),
                f"{layer}.0.fn.fn.to_kv.weight": (2 * inner, DIM),
                f"{layer}.0.fn.fn.to_out.0.weight": (DIM, inner),
                f"{layer}.0.fn.fn.to_out.0.bias": (DIM,),
                f"{layer}.1.fn.norm.weight": (DIM,),
                f"{layer}.1.fn.norm.bias": (DIM,),
                f"{layer}.1.fn.fn.net.0.weight": (hidden, DIM),
                f"{layer}.1.fn.fn.net.0.bias": (hidden,),
                f"{layer}.1.fn.fn.net.3.weight": (DIM, hidden),
                f"{layer}.1.fn.fn.net.3.bias": (DIM,),
            }
    return shapes | {f"conv_1X1_2.{part}.block.0.weight": (6, DIM, 1, 1) for part in range(2)}


@pytest.fixture
def checkpoint():
    generator = torch.Generator().manual_seed(0)
    network = {k: torch.randn(v, generator=generator) for k, v in official_shapes().items()}
    bert = small_bert().state_dict().items()
    heads = {"weight": (PIDS, 6), "bias": (PIDS,)}
    return {
        "network": network | {f"TextExtract.text_embed.{key}": value for key, value in bert},
        "W": {f"{n}.W.block.{k}": torch.randn(v) for n in range(2) for k, v in heads.items()},
        "test_best": np.float64(0.5),
        "epoch": 3,
    }


@pytest.fixture
def small_convert(compose_config, cache_dir, tmp_path):
    """Return a function from a checkpoint to the config that converts it."""
    vocabulary = tmp_path / "words"
    vocabulary.mkdir()
    (vocabulary / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    (vocabulary / "config.json").write_text(json.dumps({"model_type": "bert"}))

    def composed(checkpoint, *overrides):
        torch.save(checkpoint, tmp_path / "best.pth.tar")
        return compose_config(
            f"official={tmp_path / 'best.pth.tar'}",
            f"output={tmp_path / 'run'}",
            f"tokenizer={vocabulary}",
            f"paths.cache_dir={cache_dir}",
            *SIZES,
            *overrides,
            name="convert",
        )

    return composed


def test_the_run_folder_is_evaluated(checkpoint, small_convert, compose_config):
    made_people = [
        "dataset=synthetic",
        "image_encoder=deit_small",
        "text_encoder=bert_bilstm",
        "recipe=lgur_official",
        "dataset.read.num_train_ids=8",
        "dataset.read.num_val_ids=3",
        "dataset.read.num_test_ids=4",
        "dataset.read.images_per_id=2",
    ]
    folder = convert(small_convert(checkpoint, *made_people, f"num_train_pids={PIDS}"))
    assert OmegaConf.load(folder / "config.yaml").num_train_pids == PIDS
    metrics = evaluate(compose_config(f"run={folder}", "accelerator=cpu", name="evaluate"))
    assert 0 < metrics["test/mAP"] <= 100
    assert (folder / "evaluation_test_official.json").is_file()


def test_the_run_folder_is_loaded_and_exported(checkpoint, small_convert, compose_config, tmp_path):
    folder = convert(small_convert(checkpoint))
    captions = ["a man in a red coat", "b"]
    found = tireid.load(folder, "cpu").encode_text(captions)
    assert found.shape == (2, 12)
    out = export(compose_config(f"run={folder}", f"output={tmp_path / 'out'}", name="export"))
    assert torch.equal(tireid.load(out, "cpu").encode_text(captions), found)
    card = (out / "README.md").read_text()
    assert "converted from `best.pth.tar` of the official LGUR code" in card
    assert "This checkpoint was chosen on the test split" in card


def test_a_missing_bert_is_read_from_elsewhere(checkpoint, small_convert, tmp_path):
    bert = small_bert()
    bert.save_pretrained(tmp_path / "bert")
    network = checkpoint["network"]
    for key in [key for key in network if key.startswith("TextExtract.text_embed.")]:
        del network[key]
    with pytest.raises(ValueError, match="holds no weights of BERT; set bert="):
        convert(small_convert(checkpoint))
    folder = convert(small_convert(checkpoint, f"bert={tmp_path / 'bert'}"))
    state = torch.load(folder / "checkpoints" / "official.ckpt", weights_only=True)["state_dict"]
    for name, value in bert.state_dict().items():
        if not name.startswith("pooler."):
            assert torch.equal(state[f"text_encoder.embedding.bert.{name}"], value)


def test_what_does_not_fit_is_refused_and_nothing_written(checkpoint, small_convert, tmp_path):
    faults = {
        "model.head.dictionary_size=6": r"best\.pth\.tar: does not have .*head\.dictionary",
        "num_train_pids=11000": r"0\.W\.block\.weight: expected shape \(11000, 6\), got \(5, 6\)",
        "text_encoder.module.embedding.vocab_size=99": "tokenizer: expected the 99 word pieces",
        "official=null": "official: expected a checkpoint",
        "output=null": "output: expected a new folder",
        f"output={tmp_path}": "output: expected a new or empty folder",
    }
    for override, message in faults.items():
        with pytest.raises(ValueError, match=rf"(?s){message}"):
            convert(small_convert(checkpoint, override))
        assert not (tmp_path / "run").exists()


def test_every_fault_of_the_checkpoint_names_its_file(checkpoint, small_convert, tmp_path):
    network, heads = checkpoint["network"], checkpoint["W"]
    faults = {
        "numbers that are not finite in dict_feature": {
            "network": network | {"dict_feature": torch.full((1, 5, DIM), torch.nan)}
        },
        "7, which is no tensor by name": {"network": network | {7: torch.zeros(1)}},
        "a sparse tensor in dict_feature": {
            "network": network | {"dict_feature": network["dict_feature"].to_sparse()}
        },
        "names of the official LGUR code, got 1 others: stray": {
            "network": network | {"stray": torch.zeros(1)}
        },
        "expected 2 dimensions, got 0": {"W": heads | {"0.W.block.weight": torch.tensor(1.0)}},
        r"1 missing \(text_encoder\.lstm\.weight_ih_l0\)": {
            "network": {k: v for k, v in network.items() if k != "TextExtract.lstm.weight_ih_l0"}
        },
        r"head\.dictionary is \(2,\), expected": {
            "network": network | {"dict_feature": torch.zeros(2)}
        },
        r"dictionary is torch\.int64": {
            "network": network | {"dict_feature": torch.zeros(1, 5, DIM, dtype=torch.int64)}
        },
    }
    for message, change in faults.items():
        with pytest.raises(ValueError, match=rf"best\.pth\.tar: .*{message}") as refused:
            convert(small_convert(checkpoint | change))
        assert "state_dict" not in str(refused.value)
        assert not (tmp_path / "run").exists()


def test_a_prefix_of_several_devices_is_left_out(checkpoint, tmp_path):
    torch.save(checkpoint, tmp_path / "plain")
    wrapped = {
        part: {f"module.{k}": v for k, v in checkpoint[part].items()} for part in ("network", "W")
    }
    torch.save(wrapped, tmp_path / "wrapped")
    plain, found = (read_lgur(tmp_path / name).state for name in ("plain", "wrapped"))
    assert plain.keys() == found.keys()
    assert all(torch.equal(found[name], weight) for name, weight in plain.items())


def test_other_settings_are_those_of_training(compose_config):
    def resolved(name, *overrides):
        composed = compose_config("dataset=cuhk_pedes", *overrides, name=name)
        return OmegaConf.to_container(composed, resolve=True)

    found = resolved("convert", "output=a")
    expected = resolved(
        "train",
        "task=convert",
        "logger=csv",
        "model=lgur_official",
        "image_encoder=deit_small",
        "text_encoder=bert_bilstm",
        "recipe=lgur_official",
        "selection=test",
        "image_encoder.pretrained=false",
        "text_encoder.pretrained=false",
        "paths.output_dir=a",
        "dataset.decode=pillow",
    )
    for name in (*OWN_SETTINGS, "num_train_pids"):
        del found[name]
    only_in_training = {"label", "compile", "skip_finished", "teacher", "teaching", "ckpt_path"}
    only_in_training |= {
        "cache_words",
        "cache_words_dtype",
        "init_weights",
        "vocabulary",
        "wandb_group",
    }
    only_in_training |= {"split_of_selection", "layer_decay", "frozen_blocks", "lora_rank"}
    only_in_training |= {"checkpoint_activations", "micro_batch"}
    assert expected.keys() - found.keys() == only_in_training
    assert found == {name: expected[name] for name in found}
