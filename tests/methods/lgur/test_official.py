"""Official checkpoints: converted weights rank as the official network does; others are refused.

The network here is written by hand on the official code's names, without tireid's modules.
"""

import math
import pickle
import re
import zipfile

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from tireid.encoders.bert import BertEncoder
from tireid.encoders.lstm import BiLstmEncoder
from tireid.encoders.vit import ViTEncoder
from tireid.losses.ranking import RankingLoss
from tireid.methods.lgur import Lgur
from tireid.methods.lgur.official import BERT, convert_official, read_official

# Every width is another, so that no transposed or mistaken weight fits by chance.
DIM, MLP, BLOCKS, VIT_HEADS = 12, 20, 4, 3
PATCH, HEIGHT, WIDTH = 4, 16, 8
WORDS, BERT_DIM, BERT_MLP, POSITIONS = 30, 10, 14, 11
ATOMS, PARTS, FEATURE, PIDS = 5, 4, 6, 7
DGA = {"layers": 1, "heads": 3, "head_dim": 5, "hidden": 9}
PGU = {"layers": 2, "heads": 2, "head_dim": 8, "hidden": 13}

IDS = torch.tensor([[2, 9, 8, 7, 6, 3], [2, 5, 3, 0, 0, 0], [2, 11, 29, 4, 3, 0]])


def normal(generator, *shape):
    return torch.randn(shape, generator=generator) * 0.4


def official_bert():
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=BERT_DIM,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=BERT_MLP,
        max_position_embeddings=POSITIONS,
        initializer_range=0.5,
    )
    return BertModel(config).eval()


def decoder_weights(generator, prefix, layers, heads, head_dim, hidden):
    inner = heads * head_dim
    weights = {}
    for index in range(layers):
        layer = f"{prefix}.transformer.layers.{index}"
        weights |= {
            f"{layer}.0.fn.norm.weight": 1 + normal(generator, DIM),
            f"{layer}.0.fn.norm.bias": normal(generator, DIM),
            f"{layer}.0.fn.fn.to_q.weight": normal(generator, inner, DIM),
            f"{layer}.0.fn.fn.to_kv.weight": normal(generator, 2 * inner, DIM),
            f"{layer}.0.fn.fn.to_out.0.weight": normal(generator, DIM, inner),
            f"{layer}.0.fn.fn.to_out.0.bias": normal(generator, DIM),
            f"{layer}.1.fn.norm.weight": 1 + normal(generator, DIM),
            f"{layer}.1.fn.norm.bias": normal(generator, DIM),
            f"{layer}.1.fn.fn.net.0.weight": normal(generator, hidden, DIM),
            f"{layer}.1.fn.fn.net.0.bias": normal(generator, hidden),
            f"{layer}.1.fn.fn.net.3.weight": normal(generator, DIM, hidden),
            f"{layer}.1.fn.fn.net.3.bias": normal(generator, DIM),
        }
    return weights


def official_network(generator):
    vit = "ImageExtract.model"
    positions = 1 + (HEIGHT // PATCH) * (WIDTH // PATCH)
    weights = {
        "dict_feature": normal(generator, 1, ATOMS, DIM),
        "query_embed_image": normal(generator, 1, PARTS, DIM),
        "pos_embed_image": normal(generator, 1, 3, 17),
        "mask.0.weight": normal(generator, 1, DIM),
        "mask.0.bias": normal(generator, 1),
        f"{vit}.cls_token": normal(generator, 1, 1, DIM),
        f"{vit}.pos_embed": normal(generator, 1, positions, DIM),
        f"{vit}.patch_embed.proj.weight": normal(generator, DIM, 3, PATCH, PATCH),
        f"{vit}.patch_embed.proj.bias": normal(generator, DIM),
        f"{vit}.norm.weight": normal(generator, DIM),
        f"{vit}.norm.bias": normal(generator, DIM),
        f"{vit}.fc.weight": normal(generator, 10, DIM),
        f"{vit}.fc.bias": normal(generator, 10),
    }
    for index in range(BLOCKS):
        block = f"{vit}.blocks.{index}"
        weights |= {
            f"{block}.norm1.weight": 1 + normal(generator, DIM),
            f"{block}.norm1.bias": normal(generator, DIM),
            f"{block}.attn.qkv.weight": normal(generator, 3 * DIM, DIM),
            f"{block}.attn.qkv.bias": normal(generator, 3 * DIM),
            f"{block}.attn.proj.weight": normal(generator, DIM, DIM),
            f"{block}.attn.proj.bias": normal(generator, DIM),
            f"{block}.norm2.weight": 1 + normal(generator, DIM),
            f"{block}.norm2.bias": normal(generator, DIM),
            f"{block}.mlp.fc1.weight": normal(generator, MLP, DIM),
            f"{block}.mlp.fc1.bias": normal(generator, MLP),
            f"{block}.mlp.fc2.weight": normal(generator, DIM, MLP),
            f"{block}.mlp.fc2.bias": normal(generator, DIM),
        }
    bert = official_bert().state_dict()
    weights |= {f"TextExtract.text_embed.{key}": value for key, value in bert.items()}
    weights["TextExtract.text_embed.embeddings.position_ids"] = torch.arange(POSITIONS)[None]
    for end in ("", "_reverse"):
        weights[f"TextExtract.lstm.weight_ih_l0{end}"] = normal(generator, 4 * DIM, BERT_DIM)
        weights[f"TextExtract.lstm.weight_hh_l0{end}"] = normal(generator, 4 * DIM, DIM)
    weights |= decoder_weights(generator, "TXTDecoder_2", **DGA)
    weights |= decoder_weights(generator, "TXTDecoder", **PGU)
    for part in range(PARTS):
        weights[f"conv_1X1_2.{part}.block.0.weight"] = normal(generator, FEATURE, DIM, 1, 1)
    return weights


@pytest.fixture
def checkpoint():
    """Return what the official code saves, small."""
    generator = torch.Generator().manual_seed(0)
    heads = {}
    for part in range(PARTS):
        heads[f"{part}.W.block.weight"] = normal(generator, PIDS, FEATURE)
        heads[f"{part}.W.block.bias"] = normal(generator, PIDS)
    return {
        "network": official_network(generator),
        "W": heads,
        "optimizer": torch.optim.Adam([torch.zeros(2, requires_grad=True)]).state_dict(),
        "test_best": np.float64(0.6525),
        "epoch": 41,
    }


@pytest.fixture
def model():
    vit = ViTEncoder(
        image_size=(HEIGHT, WIDTH),
        patch_size=PATCH,
        dim=DIM,
        depth=BLOCKS,
        heads=VIT_HEADS,
        mlp_dim=MLP,
        trunk_depth=BLOCKS - 1,
        final_norm=False,
        drop_path_rate=0.1,
    )
    bert = BertEncoder(
        frozen=True,
        vocab_size=WORDS,
        dim=BERT_DIM,
        depth=2,
        heads=2,
        mlp_dim=BERT_MLP,
        max_positions=POSITIONS,
    )
    head = {
        "dictionary_size": ATOMS,
        "dictionary_heads": DGA["heads"],
        "dictionary_head_dim": DGA["head_dim"],
        "dictionary_hidden_dim": DGA["hidden"],
        "num_prototypes": PARTS,
        "prototype_depth": PGU["layers"],
        "prototype_heads": PGU["heads"],
        "prototype_head_dim": PGU["head_dim"],
        "prototype_hidden_dim": PGU["hidden"],
        "feature_dim": FEATURE,
    }
    return Lgur(
        num_train_pids=PIDS,
        head=head,
        alignment=RankingLoss(),
        image_encoder=vit,
        text_encoder=BiLstmEncoder(bert, hidden=DIM),
        optimizer=torch.optim.Adam,
        schedule=dict,
        learning_rates={},
    ).eval()


def norm(weights, name, x, eps):
    return F.layer_norm(x, (DIM,), weights[f"{name}.weight"], weights[f"{name}.bias"], eps)


def affine(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def attend(q, k, v, heads):
    """Attend from (n, h*e) to (m, h*e), a block of columns a head."""
    out = []
    for q_, k_, v_ in zip(q.chunk(heads, 1), k.chunk(heads, 1), v.chunk(heads, 1), strict=True):
        scores = q_ @ k_.T / math.sqrt(q_.shape[1])
        out.append(scores.softmax(dim=1) @ v_)
    return torch.cat(out, dim=1)


def reference_image_tokens(weights, image):
    vit = "ImageExtract.model"
    kernel = weights[f"{vit}.patch_embed.proj.weight"].reshape(DIM, -1)
    tokens = [weights[f"{vit}.cls_token"][0, 0]]
    for top in range(0, HEIGHT, PATCH):
        for left in range(0, WIDTH, PATCH):
            patch = image[:, top : top + PATCH, left : left + PATCH].reshape(-1)
            tokens.append(kernel @ patch + weights[f"{vit}.patch_embed.proj.bias"])
    x = torch.stack(tokens) + weights[f"{vit}.pos_embed"][0]
    for index in range(BLOCKS - 1):
        block = f"{vit}.blocks.{index}"
        y = affine(weights, f"{block}.attn.qkv", norm(weights, f"{block}.norm1", x, 1e-6))
        q, k, v = y[:, :DIM], y[:, DIM : 2 * DIM], y[:, 2 * DIM :]
        x = x + affine(weights, f"{block}.attn.proj", attend(q, k, v, VIT_HEADS))
        y = affine(weights, f"{block}.mlp.fc1", norm(weights, f"{block}.norm2", x, 1e-6))
        x = x + affine(weights, f"{block}.mlp.fc2", F.gelu(y))
    return x[1:]


def reference_lstm(weights, x, end):
    hidden, cell, states = torch.zeros(DIM), torch.zeros(DIM), []
    for row in x.flip(0) if end else x:
        gates = weights[f"TextExtract.lstm.weight_ih_l0{end}"] @ row
        gates = gates + weights[f"TextExtract.lstm.weight_hh_l0{end}"] @ hidden
        i, f, g, o = gates.reshape(4, DIM)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
        states.append(hidden)
    return torch.stack(states[::-1] if end else states)


def reference_text_tokens(weights, ids):
    """Return the tokens of one caption without padding."""
    x = official_bert()(ids[None]).last_hidden_state[0]
    return (reference_lstm(weights, x, "") + reference_lstm(weights, x, "_reverse")) / 2


def reference_decoder(weights, prefix, x, y, layers, heads, head_dim, hidden):
    inner = heads * head_dim
    for index in range(layers):
        layer = f"{prefix}.transformer.layers.{index}"
        attention = f"{layer}.0.fn.fn"
        shared = f"{layer}.0.fn.norm"
        q = norm(weights, shared, x, 1e-5) @ weights[f"{attention}.to_q.weight"].T
        kv = norm(weights, shared, y, 1e-5) @ weights[f"{attention}.to_kv.weight"].T
        attended = attend(q, kv[:, :inner], kv[:, inner:], heads)
        x = x + affine(weights, f"{attention}.to_out.0", attended)
        z = affine(weights, f"{layer}.1.fn.fn.net.0", norm(weights, f"{layer}.1.fn.norm", x, 1e-5))
        x = x + affine(weights, f"{layer}.1.fn.fn.net.3", z.relu())
    return x


def reference_vector(weights, tokens, *, is_image):
    rebuilt = reference_decoder(weights, "TXTDecoder_2", tokens, weights["dict_feature"][0], **DGA)
    if is_image:
        rebuilt = affine(weights, "mask.0", tokens).sigmoid() * rebuilt
    queries = weights["query_embed_image"][0]
    parts = reference_decoder(weights, "TXTDecoder", queries, rebuilt, **PGU)
    features = [
        weights[f"conv_1X1_2.{part}.block.0.weight"][:, :, 0, 0] @ row
        for part, row in enumerate(parts)
    ]
    vector = torch.cat(features)
    return vector / vector.norm()


def saved(checkpoint, path, **how):
    torch.save(checkpoint, path, **how)
    return path


def test_the_same_similarities_as_the_official_network(checkpoint, model, tmp_path):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 3, HEIGHT, WIDTH, generator=generator)
    model.load_state_dict(convert_official(**read_official(saved(checkpoint, tmp_path / "a"))))

    weights = checkpoint["network"]
    with torch.no_grad():
        found = model.encode_text(IDS, IDS != 0) @ model.encode_image(images).T
        texts = [
            reference_vector(weights, reference_text_tokens(weights, row[row != 0]), is_image=False)
            for row in IDS
        ]
        gallery = [
            reference_vector(weights, reference_image_tokens(weights, image), is_image=True)
            for image in images
        ]
    expected = torch.stack(texts) @ torch.stack(gallery).T
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_same_identity_logits(checkpoint, model):
    model.load_state_dict(convert_official(checkpoint["network"], checkpoint["W"]))
    features = torch.randn(3, PARTS, FEATURE, generator=torch.Generator().manual_seed(2))
    stacked = features.transpose(0, 1)
    found = torch.baddbmm(model.classifier_bias, stacked, model.classifier_weight.mT)
    for part in range(PARTS):
        expected = affine(checkpoint["W"], f"{part}.W.block", features[:, part])
        torch.testing.assert_close(found[part], expected)


def test_a_missing_bert_is_left_out_and_nothing_else(checkpoint, model):
    bert = "TextExtract.text_embed."
    network = {k: v for k, v in checkpoint["network"].items() if not k.startswith(bert)}
    state = convert_official(network, checkpoint["W"])
    missing = model.load_state_dict(state, strict=False)
    assert missing.unexpected_keys == []
    assert set(missing.missing_keys) == {k for k in model.state_dict() if k.startswith(BERT)}


@pytest.mark.parametrize("depth", [None, BLOCKS - 1])
def test_the_last_image_block_is_dropped(checkpoint, model, depth):
    state = convert_official(checkpoint["network"], checkpoint["W"], trunk_depth=depth)
    assert state.keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    "stray",
    [
        "extra.weight",
        "ImageExtract.model.blocks.0.attn.scale",
        "TextExtract.lstm.bias_ih_l0",
        "TXTDecoder.transformer.layers.0.2.fn.norm.weight",
        "module.dict_feature",
    ],
)
def test_a_stray_name_is_refused(checkpoint, stray):
    with pytest.raises(ValueError, match=re.escape(stray)):
        convert_official(checkpoint["network"] | {stray: torch.zeros(1)}, checkpoint["W"])
    with pytest.raises(ValueError, match=re.escape(stray)):
        convert_official(checkpoint["network"], checkpoint["W"] | {stray: torch.zeros(1)})


def test_heads_that_differ_are_refused(checkpoint):
    network, heads = checkpoint["network"], checkpoint["W"]
    with pytest.raises(ValueError, match=r"0\.W\.block\.weight: expected shape \(8, 6\), got \(7"):
        convert_official(network, heads, num_train_pids=PIDS + 1)
    other = {"2.W.block.weight": torch.zeros(PIDS + 1, FEATURE)}
    with pytest.raises(ValueError, match=r"2\.W\.block\.weight: expected shape \(7, 6\), got \(8"):
        convert_official(network, heads | other)
    other = {"1.W.block.bias": torch.zeros(PIDS + 1)}
    with pytest.raises(ValueError, match=r"1\.W\.block\.bias: expected shape \(7,\), got \(8,\)"):
        convert_official(network, heads | other)
    gap = {key: value for key, value in heads.items() if not key.startswith("1.")}
    with pytest.raises(
        ValueError, match=r"expected k = 0, 1, \.\.\. without gaps, got \[0, 2, 3\]"
    ):
        convert_official(network, gap)
    fewer = {key: value for key, value in heads.items() if not key.startswith("3.")}
    with pytest.raises(ValueError, match="as many identity heads as part maps, got 4 maps"):
        convert_official(network, fewer)


def test_odd_rows_of_keys_and_values_are_refused(checkpoint):
    key = "TXTDecoder.transformer.layers.1.0.fn.fn.to_kv.weight"
    with pytest.raises(ValueError, match=rf"{re.escape(key)}: expected rows for 2 equal parts"):
        convert_official(checkpoint["network"] | {key: torch.zeros(3, DIM)}, checkpoint["W"])


def with_names_of_numpy_1(path, new):
    """Copy a checkpoint whose numpy numbers are pickled by the module name of numpy 1."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(new, "w") as copy:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("data.pkl"):
                assert b"cnumpy._core.multiarray\nscalar\n" in content
                content = content.replace(b"cnumpy._core.", b"cnumpy.core.")
            copy.writestr(name, content)
    return new


def test_numbers_of_both_numpys_are_read(checkpoint, tmp_path):
    path = saved(checkpoint, tmp_path / "2")
    for file in (path, with_names_of_numpy_1(path, tmp_path / "1")):
        content = read_official(file)
        assert content.keys() == {"network", "W"}
        for part, weights in content.items():
            assert weights.keys() == checkpoint[part].keys()
            assert all(torch.equal(weights[key], checkpoint[part][key]) for key in weights)


def test_the_file_format_of_old_torch_is_read(checkpoint, tmp_path):
    path = saved(checkpoint, tmp_path / "old", _use_new_zipfile_serialization=False)
    assert read_official(path)["network"].keys() == checkpoint["network"].keys()


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a checkpoint was executed",))


def test_hostile_and_foreign_files_are_refused(checkpoint, tmp_path):
    path = tmp_path / "best.pth.tar"
    with pytest.raises(FileNotFoundError, match=r"best\.pth\.tar: expected"):
        read_official(path)
    for content in (b"", b"not a checkpoint", pickle.dumps(Trap())):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"best\.pth\.tar: expected a checkpoint"):
            read_official(path)
    hostile = [
        checkpoint | {"test_best": Trap()},
        checkpoint | {"network": torch.nn.Linear(1, 1)},
        checkpoint | {"test_best": np.array([1.0])},
        checkpoint | {"network": {"a": 1}},
        {"network": checkpoint["network"]},
        {"state_dict": {}},
        [1, 2],
    ]
    for content in hostile:
        with pytest.raises(ValueError, match=r"best\.pth\.tar: expected a checkpoint") as refused:
            read_official(saved(content, path))
        assert "weights_only" not in str(refused.value)
