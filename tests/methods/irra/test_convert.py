"""A converted official checkpoint of IRRA evaluates, is exported and starts a training."""

import json

import pytest
import torch
from torch.nn import functional as F

import tireid
from tireid.inference.convert import convert
from tireid.inference.export import export
from tireid.methods.irra.official import read_irra
from tireid.training.evaluate import evaluate

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
# As in CLIP, mask, start and end have the largest ids, in this order.
WORDS = ["[PAD]", "[UNK]", *LETTERS, *(f"##{x}" for x in LETTERS), "[MASK]", "[CLS]", "[SEP]"]
SIZES = {
    "image": {"dim": 12, "heads": 3, "mlp": 48, "depth": 2},
    "text": {"dim": 6, "heads": 2, "mlp": 24, "depth": 2},
    "out": 8,
    "relation_heads": 4,
    "relation_depth": 3,
    "patch": 16,
    "size": (48, 16),
    "words": len(WORDS),
    "length": 60,
    "classes": 5,
}
OVERRIDES = [
    "dataset.image_size=[48,16]",
    "image_encoder.module={dim:12,heads:3,depth:2,out_dim:8}",
    f"text_encoder.module={{dim:6,heads:2,depth:2,out_dim:8,vocab_size:{len(WORDS)}}}",
    "text_encoder.module.max_positions=60",
    "text_encoder.tokenizer.max_length=60",
    f"text_encoder.words={{mask_id:74,first_word:1,end_word:74,num_ids:{len(WORDS)}}}",
    "model.relation={heads:4,depth:3}",
]
PEOPLE = [
    "dataset=synthetic",
    "dataset.read.num_train_ids=8",
    "dataset.read.num_val_ids=3",
    "dataset.read.num_test_ids=4",
    "dataset.read.images_per_id=2",
]


@pytest.fixture
def checkpoint(official):
    """Return what the official code saves, in its types."""
    weights = official.weights(SIZES)
    half = {
        k: v.half() if "ln" not in k and "embedding" not in k else v for k, v in weights.items()
    }
    saved = {"model": half, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-5}]}}
    return saved | {"scheduler": {"last_epoch": 60}, "num_epoch": 60, "iteration": 0, "epoch": 60}


@pytest.fixture
def small_convert(compose_config, cache_dir, tmp_path):
    """Return a function from a checkpoint to the config that converts it."""
    vocabulary = tmp_path / "words"
    vocabulary.mkdir()
    (vocabulary / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (vocabulary / "config.json").write_text(json.dumps({"model_type": "bert"}))

    def composed(checkpoint, *overrides):
        torch.save(checkpoint, tmp_path / "best.pth")
        return compose_config(
            "source=irra",
            f"official={tmp_path / 'best.pth'}",
            f"output={tmp_path / 'run'}",
            f"tokenizer={vocabulary}",
            f"paths.cache_dir={cache_dir}",
            *OVERRIDES,
            *overrides,
            name="convert",
        )

    return composed


def test_the_run_folder_is_evaluated_exported_and_scores_as_the_official_code(
    checkpoint, small_convert, compose_config, official, tmp_path, capsys
):
    folder = convert(small_convert(checkpoint, *PEOPLE, "num_train_pids=5"))
    assert "terms of the data that the weights were trained on: Made by" in capsys.readouterr().out
    metrics = evaluate(compose_config(f"run={folder}", "accelerator=cpu", name="evaluate"))
    assert 0 < metrics["test/mAP"] <= 100

    out = export(compose_config(f"run={folder}", f"output={tmp_path / 'out'}", name="export"))
    assert "converted from `best.pth` of the official IRRA code" in (out / "README.md").read_text()
    retriever = tireid.load(out, "cpu")
    theirs = official.module({k: v.float() for k, v in checkpoint["model"].items()}, SIZES)
    ids = [[74 + 1, *(WORDS.index(x) for x in word), 74 + 2] for word in ("a", "z")]
    padded = torch.tensor([row + [0] * (60 - len(row)) for row in ids])
    with torch.no_grad():
        text = F.normalize(theirs.text_feature(padded), dim=1)
    torch.testing.assert_close(
        torch.as_tensor(retriever.encode_text(["a", "z"])).double(), text, rtol=1e-5, atol=1e-5
    )


@pytest.mark.slow
def test_a_checkpoint_goes_through_all_commands(
    official, clip_words, take_through_all_commands, tmp_path
):
    torch.save({"model": official.weights(SIZES | {"words": clip_words})}, tmp_path / "best.pth")
    last = f"mask_id:{clip_words - 3},first_word:1,end_word:{clip_words - 3},num_ids:{clip_words}"
    words = [f"text_encoder.module.vocab_size={clip_words}", f"text_encoder.words={{{last}}}"]
    take_through_all_commands("irra", *OVERRIDES, *words, "model=irra_official")


def test_what_does_not_fit_is_refused_by_one_message(checkpoint, small_convert, tmp_path):
    model = checkpoint["model"]
    less = {k: v for k, v in model.items() if k != "ln_pre_t.weight"}
    flat = model["base_model.text_projection"].flatten()
    faults = {
        r"names of the official IRRA code, got 1 others: stray": {"stray": torch.zeros(1)},
        r"1 missing \(relation\.text_norm\.weight\)": less,
        r"text_projection\.weight: expected a matrix, got shape": {
            "base_model.text_projection": flat
        },
        r"image_norm\.bias is \(3,\), expected \(8,\)": {"ln_pre_i.bias": torch.zeros(3)},
        r"classifier\.weight: expected a matrix, got none": {
            k: v for k, v in model.items() if k != "classifier.weight"
        },
        r"expected rows for 3 equal parts": {
            "base_model.transformer.resblocks.0.attn.in_proj_bias": torch.zeros(7)
        },
        r"final_norm\.weight is torch\.int64": {"ln_post.weight": torch.ones(8, dtype=torch.int64)},
        "not finite in ln_post.bias": {"ln_post.bias": torch.full((8,), torch.nan)},
    }
    for message, change in faults.items():
        changed = change if len(change) > 5 else model | change
        with pytest.raises(ValueError, match=rf"best\.pth: .*{message}"):
            convert(small_convert({"model": changed}))
        assert not (tmp_path / "run").exists()
    with pytest.raises(
        ValueError, match=r"best\.pth: .*expected 11003 training identities .*got 5"
    ):
        convert(small_convert(checkpoint, "num_train_pids=11003"))


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a checkpoint was executed",))


def test_pickled_objects_are_refused_and_a_prefix_of_all_names_is_not(checkpoint, tmp_path):
    path = tmp_path / "best.pth"
    for content in ({"model": Trap()}, checkpoint | {"epoch": Trap()}, {"state_dict": {}}, [1]):
        torch.save(content, path)
        with pytest.raises(ValueError, match=r"best\.pth: expected a checkpoint of the official"):
            read_irra(path)
    wrapped = {f"module.{k}": v for k, v in checkpoint["model"].items()}
    torch.save({"model": wrapped}, path)
    assert read_irra(path).num_train_pids == 5
    torch.save({"model": wrapped | checkpoint["model"]}, path)
    with pytest.raises(ValueError, match=r"got \d+ others: module\.base_model"):
        read_irra(path)
