"""RDE with given weights equals the official module; checkpoints of the official code convert.

The network here is written by hand on the official code's names, without tireid's modules.
"""

import math
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from tireid.encoders.clip import ClipImageEncoder, ClipTextEncoder
from tireid.losses.tal import TalLoss
from tireid.methods.rde import Rde
from tireid.methods.rde.official import convert_official, read_rde
from tireid.structures import PairBatch

START, END, POSITIONS, VOCABULARY = 38, 39, 17, 40
# Widths of towers and space, heads, blocks, image in patches, share of tokens.
SIZES = {
    "small": {
        "image": 12,
        "text": 8,
        "space": 10,
        "heads": 2,
        "blocks": 2,
        "grid": (4, 2),
        "k": 0.5,
    },
    "other": {
        "image": 18,
        "text": 12,
        "space": 7,
        "heads": 3,
        "blocks": 3,
        "grid": (5, 3),
        "k": 0.3,
    },
    "one word": {
        "image": 8,
        "text": 16,
        "space": 9,
        "heads": 4,
        "blocks": 1,
        "grid": (3, 3),
        "k": 0.12,
    },
}
PATCH, TOKENS = 4, 14
for _size in SIZES.values():
    _size |= {"patch": PATCH, "tokens": TOKENS, "words": VOCABULARY, "positions": POSITIONS}
PIDS = torch.tensor([5, 7, 5, 9, 7])
IDS = torch.zeros(5, POSITIONS, dtype=torch.int64)
for _row, _words in enumerate(([4, 9, 8, 30, 2, 21, 6, 7, 11], [3], [9, 9, 4], [5, 6], [12] * 12)):
    IDS[_row, : len(_words) + 2] = torch.tensor([START, *_words, END])
LENGTHS = IDS.argmax(1) + 1


def affine(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def layer_norm(weights, name, x):
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / (variance + 1e-5).sqrt() * weights[f"{name}.weight"] + weights[
        f"{name}.bias"
    ]


def transformer(weights, prefix, x, heads, count, causal):
    """Return the tokens of one sample, and the attention of the last block, mean over heads."""
    width = x.shape[1]
    for index in range(count):
        block = f"{prefix}.resblocks.{index}"
        y = layer_norm(weights, f"{block}.ln_1", x)
        qkv = y @ weights[f"{block}.attn.in_proj_weight"].T + weights[f"{block}.attn.in_proj_bias"]
        q, k, v = qkv[:, :width], qkv[:, width : 2 * width], qkv[:, 2 * width :]
        out, maps = [], []
        for a, b, c in zip(q.chunk(heads, 1), k.chunk(heads, 1), v.chunk(heads, 1), strict=True):
            scores = a @ b.T / math.sqrt(a.shape[1])
            if causal:
                later = torch.ones_like(scores, dtype=torch.bool).triu(1)
                scores = scores.masked_fill(later, -math.inf)
            maps.append(scores.softmax(1))
            out.append(maps[-1] @ c)
        x = x + affine(weights, f"{block}.attn.out_proj", torch.cat(out, 1))
        y = affine(weights, f"{block}.mlp.c_fc", layer_norm(weights, f"{block}.ln_2", x))
        x = x + affine(weights, f"{block}.mlp.c_proj", y * torch.sigmoid(1.702 * y))
    return x, torch.stack(maps).mean(0).detach()


def image_tokens(weights, size, image):
    visual = "base_model.visual"
    kernel = weights[f"{visual}.conv1.weight"].reshape(size["image"], -1)
    rows = [weights[f"{visual}.class_embedding"]]
    for top in range(0, image.shape[1], PATCH):
        for left in range(0, image.shape[2], PATCH):
            rows.append(kernel @ image[:, top : top + PATCH, left : left + PATCH].reshape(-1))
    x = torch.stack(rows) + weights[f"{visual}.positional_embedding"]
    x = layer_norm(weights, f"{visual}.ln_pre", x)
    name = f"{visual}.transformer"
    x, attention = transformer(weights, name, x, size["heads"], size["blocks"], causal=False)
    return layer_norm(weights, f"{visual}.ln_post", x) @ weights[f"{visual}.proj"], attention


def text_tokens(weights, size, ids):
    x = (
        weights["base_model.token_embedding.weight"][ids]
        + weights["base_model.positional_embedding"]
    )
    name = "base_model.transformer"
    x, attention = transformer(weights, name, x, size["heads"], size["blocks"], causal=True)
    return layer_norm(weights, "base_model.ln_final", x) @ weights[
        "base_model.text_projection"
    ], attention


def chosen_places(scores, own, count, words=None):
    """Return the columns of the highest scores, in their order."""
    scores = scores.clone()
    scores[own] = -1
    if words is not None:
        scores[0] = -1
        scores = scores * words
    ranked = sorted(range(len(scores)), key=lambda place: -float(scores[place]))
    return ranked[:count]


def token_features(weights, prefix, shortcut, chosen, statistics):
    """Return the embeddings of samples whose chosen tokens are given, one matrix each."""
    units = [x / (x.norm(dim=1, keepdim=True) + 1e-8) for x in chosen]
    hidden = [affine(weights, f"{prefix}.mlp.layers.0", x) for x in units]
    norm = f"{prefix}.mlp.bns.0"
    if statistics == "batch":
        rows = torch.cat(hidden)
        mean, variance = rows.mean(0), rows.var(0, unbiased=False)
    else:
        mean, variance = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
    features = []
    for x, y in zip(units, hidden, strict=True):
        y = (y - mean) / (variance + 1e-5).sqrt() * weights[f"{norm}.weight"] + weights[
            f"{norm}.bias"
        ]
        y = affine(weights, f"{prefix}.mlp.layers.1", y.clamp(min=0))
        features.append((y + affine(weights, f"{prefix}.{shortcut}", x)).amax(0))
    return torch.stack(features)


def official_features(weights, size, images, statistics="running"):
    """Return the global and the token features of images, then of the texts."""
    of_images = [image_tokens(weights, size, image) for image in images]
    count = int(size["grid"][0] * size["grid"][1] * size["k"])
    chosen = [x[chosen_places(a[0], 0, count)] for x, a in of_images]
    found = [torch.stack([x[0] for x, _ in of_images])]
    found.append(token_features(weights, "visul_emb_layer", "fc", chosen, statistics))
    ends, chosen = IDS.argmax(1), []
    of_texts = [text_tokens(weights, size, ids) for ids in IDS]
    for (x, a), ids, end in zip(of_texts, IDS, ends, strict=True):
        words = int((ids != 0).sum()) - 2
        places = chosen_places(a[end], end, int((POSITIONS - 2) * size["k"]), ids != 0)
        chosen.append(x[places[:words]])
    found.append(torch.stack([x[end] for (x, _), end in zip(of_texts, ends, strict=True)]))
    found.append(token_features(weights, "texual_emb_layer", "linear", chosen, statistics))
    return found


def official_loss(images, texts, kept):
    cosines = F.normalize(texts, dim=1) @ F.normalize(images, dim=1).T
    total = 0.0
    for s in (cosines, cosines.T):
        for i, pid in enumerate(PIDS):
            weights = ((s[i] / 0.015).exp() * (pid == PIDS)).detach()
            negatives = ((s[i] / 0.015).exp() * (pid != PIDS)).sum().clamp(max=1e36)
            value = 0.1 - (weights / weights.sum() * s[i]).sum() + 0.015 * negatives.log()
            total = total + kept[i] * value.clamp(min=0)
    return total


def rde(size, **settings):
    grid = size["grid"]
    common = {"depth": size["blocks"], "heads": size["heads"], "out_dim": size["space"]}
    return Rde(
        num_train_pids=3,
        alignment=TalLoss(),
        token_dim=TOKENS,
        token_share=size["k"],
        text_length=POSITIONS,
        scores="attention",
        image_encoder=ClipImageEncoder(
            image_size=(PATCH * grid[0], PATCH * grid[1]),
            patch_size=PATCH,
            dim=size["image"],
            **common,
        ),
        text_encoder=ClipTextEncoder(
            vocab_size=VOCABULARY, dim=size["text"], max_positions=POSITIONS, **common
        ),
        **settings,
    )


def pictures(size):
    generator = torch.Generator().manual_seed(1)
    shape = (5, 3, PATCH * size["grid"][0], PATCH * size["grid"][1])
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def double_loading(monkeypatch):
    """Keep converted weights in double precision, in which rounding hides nothing."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def close(found, expected):
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * scale + 1e-12)


@pytest.mark.usefixtures("double_loading")
@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_features_losses_and_all_gradients_are_the_official_ones(official_weights, name, norm):
    size = SIZES[name]
    weights = official_weights(size)
    trained = {
        k: v.requires_grad_()
        for k, v in weights.items()
        if v.is_floating_point() and "running" not in k
    }
    images, kept = pictures(size), torch.tensor([True, False, True, True, True])
    statistics = {"frozen": "running", "batch": "batch"}[norm]
    image, image_part, text, text_part = official_features(weights, size, images, statistics)
    losses = [official_loss(image, text, kept), official_loss(image_part, text_part, kept)]
    sum(losses).backward()

    model = rde(size, norm=norm).double()
    model.load_state_dict(convert_official({k: v.detach() for k, v in weights.items()}))
    model.train()
    longest = int(LENGTHS.max())
    ids, valid = IDS[:, :longest], torch.arange(longest) < LENGTHS[:, None]
    rows = torch.arange(5)
    batch = PairBatch(images, ids, valid, rows, PIDS, rows, rows)
    model.trust.load_state({"epoch": 0, "kept": kept})
    terms = model.training_terms(batch, 0)
    close(terms.images, torch.cat([F.normalize(image), F.normalize(image_part)], 1))
    close(terms.texts, torch.cat([F.normalize(text), F.normalize(text_part)], 1))
    close(torch.stack(list(terms.terms.values())), torch.stack(losses).detach())
    sum(terms.terms.values()).backward()
    gradients = {k: v.grad for k, v in trained.items() if v.grad is not None}
    expected = convert_official(gradients)
    found = {k: p.grad for k, p in model.named_parameters()}
    assert found.keys() == expected.keys()
    assert sum(bool(gradient.any()) for gradient in found.values()) > 0.9 * len(found)
    for key, gradient in found.items():
        close(gradient, expected[key])


@pytest.mark.usefixtures("double_loading")
@pytest.mark.parametrize("name", SIZES)
def test_similarity_is_the_mean_of_the_official_two(official_weights, name):
    size = SIZES[name]
    weights, images = official_weights(size), pictures(size)
    image, image_part, text, text_part = official_features(weights, size, images)
    model = rde(size).double().eval()
    model.load_state_dict(convert_official(weights))
    valid = torch.arange(POSITIONS) < LENGTHS[:, None]
    with torch.no_grad():
        found = model.encode_text(IDS, valid) @ model.encode_image(images).T
    expected = F.cosine_similarity(text[:, None], image[None], dim=-1)
    expected = (expected + F.cosine_similarity(text_part[:, None], image_part[None], dim=-1)) / 2
    close(found, expected)


def saved(path, weights, **others):
    parts = {"model": weights, "optimizer": {}, "num_epoch": 60, "iteration": 0, "epoch": 3}
    torch.save(parts | others, path)
    return path


def test_a_file_of_the_official_code_is_read_in_its_precisions(official_weights, tmp_path):
    size = SIZES["small"]
    weights = official_weights(size, torch.float32)
    halved = {k: v.half() if "weight" in k and v.ndim == 2 else v for k, v in weights.items()}
    file = saved(tmp_path / "best.pth", {f"module.{k}": v for k, v in halved.items()})
    state = read_rde(file, num_train_pids=9)
    assert state.num_train_pids == 9
    model = rde(size)
    model.load_state_dict(state.state)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visul_emb_layer.more": torch.zeros(2)}, "official RDE code, got 1 others: visul_emb"),
        ({"texual_emb_layer.fc.weight": torch.zeros(2)}, "got 1 others: texual_emb_layer.fc"),
        ({"base_model.visual.proj": torch.zeros(2)}, "expected a matrix, got shape"),
        ({"base_model.visual.proj": partial(print)}, "got what is not, or not only, tensors"),
    ],
)
def test_what_is_not_of_the_official_layout_is_named(official_weights, tmp_path, change, message):
    weights = official_weights(SIZES["small"], torch.float32)
    with pytest.raises(ValueError, match=message):
        read_rde(saved(tmp_path / "best.pth", weights | change))
