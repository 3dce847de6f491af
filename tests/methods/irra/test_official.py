"""IRRA equals its official module, written here from a description and on the official names.

All is in float64: only the weights and the gradients, which pass through the conversion, are
rounded to float32.
"""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from tireid.data.masking import WordMasking
from tireid.encoders.clip import ClipImageEncoder, ClipTextEncoder
from tireid.losses.projection import SdmLoss
from tireid.methods.irra import Irra
from tireid.methods.irra.official import convert_official
from tireid.structures import PairBatch

# No two widths of one model are equal, so that no transposed weight fits by chance: but the text
# projection is square in the official layout.
SMALL = {
    "image": {"dim": 12, "heads": 3, "mlp": 48, "depth": 2},
    "text": {"dim": 8, "heads": 2, "mlp": 32, "depth": 2},
    "out": 8,
    "relation_heads": 4,
    "relation_depth": 3,
    "patch": 4,
    "size": (12, 8),
    "words": 40,
    "length": 9,
    "classes": 5,
}
OTHER = SMALL | {
    "image": {"dim": 20, "heads": 2, "mlp": 80, "depth": 1},
    "text": {"dim": 6, "heads": 1, "mlp": 24, "depth": 3},
    "out": 10,
    "relation_heads": 2,
    "relation_depth": 1,
    "patch": 8,
    "size": (16, 24),
    "words": 61,
    "length": 14,
    "classes": 7,
}
SIZES = pytest.mark.parametrize("sizes", [SMALL, OTHER], ids=["small", "other"])
PIDS = torch.tensor([3, 1, 3, 0, 4])


def tower_shapes(prefix, dim, mlp, depth):
    shapes = {}
    for block in (f"{prefix}.resblocks.{index}" for index in range(depth)):
        shapes |= {
            f"{block}.attn.in_proj_weight": (3 * dim, dim),
            f"{block}.attn.in_proj_bias": (3 * dim,),
            f"{block}.attn.out_proj.weight": (dim, dim),
            f"{block}.attn.out_proj.bias": (dim,),
            f"{block}.ln_1.weight": (dim,),
            f"{block}.ln_1.bias": (dim,),
            f"{block}.mlp.c_fc.weight": (mlp, dim),
            f"{block}.mlp.c_fc.bias": (mlp,),
            f"{block}.mlp.c_proj.weight": (dim, mlp),
            f"{block}.mlp.c_proj.bias": (dim,),
            f"{block}.ln_2.weight": (dim,),
            f"{block}.ln_2.bias": (dim,),
        }
    return shapes


def official_shapes(sizes):
    image, text, out = sizes["image"], sizes["text"], sizes["out"]
    patches = math.prod(side // sizes["patch"] for side in sizes["size"])
    shapes = {
        "base_model.visual.class_embedding": (image["dim"],),
        "base_model.visual.conv1.weight": (image["dim"], 3, sizes["patch"], sizes["patch"]),
        "base_model.visual.positional_embedding": (1 + patches, image["dim"]),
        "base_model.visual.proj": (image["dim"], out),
        "base_model.token_embedding.weight": (sizes["words"], text["dim"]),
        "base_model.positional_embedding": (sizes["length"], text["dim"]),
        "base_model.text_projection": (text["dim"], out),
        "cross_attn.in_proj_weight": (3 * out, out),
        "cross_attn.in_proj_bias": (3 * out,),
        "cross_attn.out_proj.weight": (out, out),
        "cross_attn.out_proj.bias": (out,),
        "mlm_head.dense.weight": (out, out),
        "mlm_head.dense.bias": (out,),
        "mlm_head.fc.weight": (sizes["words"], out),
        "mlm_head.fc.bias": (sizes["words"],),
        "classifier.weight": (sizes["classes"], out),
        "classifier.bias": (sizes["classes"],),
    }
    norms = {
        "base_model.visual.ln_pre": image["dim"],
        "base_model.visual.ln_post": image["dim"],
        "base_model.ln_final": text["dim"],
        **dict.fromkeys(("ln_pre_t", "ln_pre_i", "ln_post", "mlm_head.ln"), out),
    }
    for norm, dim in norms.items():
        shapes |= {f"{norm}.weight": (dim,), f"{norm}.bias": (dim,)}
    for prefix, tower in (("base_model.visual", image), ("base_model", text)):
        shapes |= tower_shapes(f"{prefix}.transformer", tower["dim"], tower["mlp"], tower["depth"])
    return shapes | tower_shapes("cross_modal_transformer", out, 4 * out, sizes["relation_depth"])


def official_weights(sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(shape, generator=generator) * 0.3
        + (1.0 if "ln" in key and key.endswith("weight") else 0.0)
        for key, shape in official_shapes(sizes).items()
    }


class Official:
    """The official module on its own names, with plain loops where they are plainer."""

    def __init__(self, weights, sizes):
        self.w = {k: v.double().requires_grad_() for k, v in weights.items()}
        self.sizes = sizes

    def linear(self, name, x):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def norm(self, name, x):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def attend(self, name, queries, keys, heads, causal=False):
        dim = queries.shape[-1]
        weights = self.w[f"{name}.in_proj_weight"].split(dim)
        biases = self.w[f"{name}.in_proj_bias"].split(dim)
        q, k, v = (
            (x @ weight.T + bias).unflatten(-1, (heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((queries, keys, keys), weights, biases, strict=True)
        )
        scores = q @ k.transpose(-1, -2) / math.sqrt(dim // heads)
        if causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return self.linear(f"{name}.out_proj", mixed)

    @staticmethod
    def gelu(x):
        return x / (1 + torch.exp(-1.702 * x))

    def blocks(self, prefix, x, depth, heads, causal=False):
        for block in (f"{prefix}.resblocks.{index}" for index in range(depth)):
            normed = self.norm(f"{block}.ln_1", x)
            x = x + self.attend(f"{block}.attn", normed, normed, heads, causal)
            hidden = self.gelu(self.linear(f"{block}.mlp.c_fc", self.norm(f"{block}.ln_2", x)))
            x = x + self.linear(f"{block}.mlp.c_proj", hidden)
        return x

    def image_tokens(self, images):
        v, tower = "base_model.visual", self.sizes["image"]
        patches = F.conv2d(images, self.w[f"{v}.conv1.weight"], stride=self.sizes["patch"])
        patches = patches.flatten(2).transpose(1, 2)
        first = self.w[f"{v}.class_embedding"].expand(len(images), 1, -1)
        x = torch.cat([first, patches], 1) + self.w[f"{v}.positional_embedding"]
        x = self.norm(f"{v}.ln_pre", x)
        x = self.blocks(f"{v}.transformer", x, tower["depth"], tower["heads"])
        return self.norm(f"{v}.ln_post", x) @ self.w[f"{v}.proj"]

    def text_tokens(self, ids):
        tower = self.sizes["text"]
        x = self.w["base_model.token_embedding.weight"][ids]
        x = x + self.w["base_model.positional_embedding"]
        x = self.blocks("base_model.transformer", x, tower["depth"], tower["heads"], causal=True)
        return self.norm("base_model.ln_final", x) @ self.w["base_model.text_projection"]

    def text_feature(self, ids):
        tokens = self.text_tokens(ids)
        return torch.stack(
            [t[row.index(max(row))] for t, row in zip(tokens, ids.tolist(), strict=True)]
        )

    def word_logits(self, masked_ids, images):
        texts = self.norm("ln_pre_t", self.text_tokens(masked_ids))
        keys = self.norm("ln_pre_i", self.image_tokens(images))
        heads, depth = self.sizes["relation_heads"], self.sizes["relation_depth"]
        x = self.attend("cross_attn", texts, keys, heads)
        x = self.norm("ln_post", self.blocks("cross_modal_transformer", x, depth, heads))
        x = self.norm("mlm_head.ln", self.gelu(self.linear("mlm_head.dense", x)))
        return self.linear("mlm_head.fc", x)

    def losses(self, images, caption_ids, masked_ids, labels, pids):
        image, text = self.image_tokens(images)[:, 0], self.text_feature(caption_ids)
        unit = [x / x.norm(dim=1, keepdim=True) for x in (image, text)]
        same = (pids[:, None] == pids).double()
        target = same / same.sum(1, keepdim=True)

        def divergence(scores):
            p = (50 * scores).softmax(1)
            return (p * (p.log() - (target + 1e-8).log())).sum(1).mean()

        scores = unit[1] @ unit[0].T
        sdm = divergence(scores) + divergence(scores.T)
        identity = sum(F.cross_entropy(self.linear("classifier", x), pids) for x in (image, text))
        logits = self.word_logits(masked_ids, images)
        words = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=0)
        return {"alignment": sdm, "id": identity / 2, "words": words}


def official_masking(ids, draws, random_words, sizes):
    """Return masked ids and labels, one draw a word in order, and another a random word."""
    mask, first, last = sizes["words"] - 3, 1, sizes["words"] - 4
    ids, labels = list(ids), [0] * len(ids)
    for position, word in enumerate(ids):
        if not 0 < word < mask:
            continue
        draw = draws[position]
        if draw < 0.15:
            labels[position] = word
            if draw / 0.15 < 0.8:
                ids[position] = mask
            elif draw / 0.15 < 0.9:
                ids[position] = first + int(random_words[position] * (last - first + 1))
    if not any(labels):
        labels[1], ids[1] = ids[1], mask
    return ids, labels


def captions(sizes):
    """Full, short, without a word, with an end token in the middle."""
    start, end, length = sizes["words"] - 2, sizes["words"] - 1, sizes["length"]
    generator = torch.Generator().manual_seed(5)
    draw = torch.randint(1, sizes["words"] - 3, (5, length), generator=generator).tolist()
    return [
        [start, *draw[0][: length - 2], end],
        [start, *draw[1][:3], end],
        [start, end],
        [start, draw[3][0], end, draw[3][1], end],
        [start, *draw[4][: length - 3], end],
    ]


def masking_of(sizes):
    words = sizes["words"]
    return WordMasking(mask_id=words - 3, first_word=1, end_word=words - 3, num_ids=words)


def draws_of(ids):
    """Some words masked, some replaced, some kept: 0.05, 0.125, 0.14 of 0.15."""
    choices = [0.05, 0.125, 0.9, 0.14, 0.6, 0.149, 0.01]
    return [choices[(3 * k + len(ids)) % 7] for k in range(len(ids))], [
        (0.37 * k + 0.11) % 1 for k in range(len(ids))
    ]


def batch_of(sizes, pad_id):
    """Return a batch as the data module makes it, with given draws, and the official inputs."""
    ids, masking = captions(sizes), masking_of(sizes)
    longest = max(map(len, ids))
    valid = torch.arange(longest) < torch.tensor([len(row) for row in ids])[:, None]
    token_ids = torch.tensor([row + [pad_id] * (longest - len(row)) for row in ids])
    draws = [draws_of(row) for row in ids]

    official = [official_masking(row, *draw, sizes) for row, draw in zip(ids, draws, strict=True)]
    padded = [
        torch.tensor([row + [0] * (sizes["length"] - len(row)) for row in rows])
        for rows in (ids, [masked for masked, _ in official], [label for _, label in official])
    ]
    masked = masking.batch(ids, draws, token_ids)
    images = torch.randn(
        5, 3, *sizes["size"], generator=torch.Generator().manual_seed(6), dtype=torch.float64
    )
    batch = PairBatch(
        images=images,
        token_ids=token_ids,
        valid=valid,
        label=PIDS,
        pid=PIDS,
        image_id=torch.arange(5),
        index=torch.arange(5),
        masked=masked,
    )
    return batch, images, *padded


def ours_of(weights, sizes, **switches):
    image, text = sizes["image"], sizes["text"]
    model = Irra(
        image_encoder=ClipImageEncoder(
            image_size=sizes["size"],
            patch_size=sizes["patch"],
            dim=image["dim"],
            depth=image["depth"],
            heads=image["heads"],
            out_dim=sizes["out"],
        ),
        text_encoder=ClipTextEncoder(
            vocab_size=sizes["words"],
            dim=text["dim"],
            depth=text["depth"],
            heads=text["heads"],
            max_positions=sizes["length"],
            out_dim=sizes["out"],
        ),
        num_train_pids=sizes["classes"],
        alignment=SdmLoss(),
        masking=masking_of(sizes),
        relation={"heads": sizes["relation_heads"], "depth": sizes["relation_depth"]},
        attend_padding=True,
        padded_length=sizes["length"],
        **switches,
    )
    model.load_state_dict(convert_official(weights).state)
    return model.double()


@SIZES
@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "copied"])
def test_losses_and_all_gradients_are_the_official_ones(sizes, in_place):
    weights = official_weights(sizes)
    official = Official(weights, sizes)
    model = ours_of(
        weights,
        sizes,
        masked_for="all" if in_place else "relation",
        end_position="largest_id",
    )
    batch, images, ids, masked, labels = batch_of(sizes, pad_id=sizes["words"] - 1)
    expected = official.losses(images, masked if in_place else ids, masked, labels, PIDS)
    found = model.training_terms(batch, 0).terms
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9)

    sum(expected.values()).backward()
    sum(found.values()).backward()
    gradients = convert_official({k: v.grad for k, v in official.w.items()}).state
    compared = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert compared.keys() == gradients.keys()
    for name, gradient in gradients.items():
        size, error = torch.linalg.norm(gradient), torch.linalg.norm(compared[name] - gradient)
        if name.endswith("k_proj.bias"):  # no softmax depends on it: rounding
            assert max(size, error) < 1e-9
        else:
            assert error < 1e-6 * size, name


@SIZES
def test_features_and_similarities_are_the_official_ones(sizes):
    weights = official_weights(sizes, seed=1)
    official = Official(weights, sizes)
    model = ours_of(weights, sizes, end_position="largest_id").eval()
    batch, images, ids, _, _ = batch_of(sizes, pad_id=sizes["words"] - 1)
    with torch.no_grad():
        image, text = official.image_tokens(images)[:, 0], official.text_feature(ids)
        torch.testing.assert_close(model.image_features(images), image)
        torch.testing.assert_close(model.text_features(batch.token_ids, batch.valid), text)
        scores = model.encode_text(batch.token_ids, batch.valid) @ model.encode_image(images).T
        torch.testing.assert_close(scores, F.cosine_similarity(text[:, None], image, dim=2))


@SIZES
def test_masking_is_the_official_one_with_given_draws(sizes):
    masking = masking_of(sizes)
    for ids in captions(sizes):
        draws = draws_of(ids)
        masked, labels = official_masking(ids, *draws, sizes)
        found, chosen = masking.mask(ids, *draws)
        assert found == masked
        assert chosen == [position for position, label in enumerate(labels) if label]


def official_group(name):
    """Return rate and decay of a parameter; the later rule wins."""
    rate, decay = 1e-5, 4e-5
    if "cross" in name:
        rate = 5e-5
    if "bias" in name:
        rate, decay = 2e-5, 0.0
    if "classifier" in name or "mlm_head" in name:
        rate = 5e-5
    return rate, decay


def test_rates_of_all_groups_are_the_official_ones_in_every_epoch(compose_config, tmp_path):
    from hydra.utils import instantiate

    cfg = compose_config("experiment=irra_official", f"paths.output_dir={tmp_path}")
    recipe = instantiate(cfg.recipe, _convert_="all")
    weights = official_weights(SMALL)
    expected = [
        convert_official(
            {k: torch.full_like(v, official_group(k)[part]) for k, v in weights.items()}
        ).state
        for part in (0, 1)
    ]
    arguments = {name: recipe[name] for name in ("optimizer", "schedule", "learning_rates")}
    model = ours_of(weights, SMALL, **arguments).float()
    model.trainer = SimpleNamespace(estimated_stepping_batches=60 * 1064)
    configured = model.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults["eps"] == 1e-3
    assert recipe["batch_size"] == 64
    for epoch in range(recipe["max_epochs"]):
        factor = 0.1 + 0.9 * epoch / 5
        if epoch >= 5:
            factor = 0.5 * (1 + math.cos(math.pi * (epoch - 5) / 55))
        seen = 0
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                seen += 1
                rate, decay = (values[names[id(parameter)]].flatten()[0] for values in expected)
                assert group["lr"] == pytest.approx(float(rate) * factor, rel=1e-5)
                assert group["weight_decay"] == pytest.approx(float(decay), rel=1e-5)
        assert seen == len(names)
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-15)


def test_initial_spreads_are_the_official_ones():
    torch.manual_seed(0)
    wide = SMALL | {"out": 256, "relation_depth": 2, "words": 900}
    model = Irra(
        image_encoder=ClipImageEncoder(
            image_size=(8, 8), patch_size=8, dim=8, depth=1, heads=1, out_dim=256
        ),
        text_encoder=ClipTextEncoder(vocab_size=900, dim=8, depth=1, heads=1, out_dim=256),
        num_train_pids=300,
        alignment=SdmLoss(),
        masking=masking_of(wide),
        relation={"heads": None, "depth": 2},
    )
    narrow, block = 256**-0.5 * 4**-0.5, model.relation.blocks[1]
    spreads = {
        model.classifier.weight: 0.001,
        model.relation.cross_attention.in_proj_weight: 256**-0.5,
        model.relation.cross_attention.out_proj.weight: narrow,
        block.attention.in_proj_weight: 256**-0.5,
        block.attention.out_proj.weight: narrow,
        block.contract.weight: narrow,
        block.expand.weight: 512**-0.5,
        model.relation.head.dense.weight: 512**-0.5,
        model.relation.head.out.weight: narrow,
    }
    for weight, spread in spreads.items():
        assert float(weight.detach().std()) == pytest.approx(spread, rel=0.03)
    assert not model.classifier.bias.any()
    assert not block.attention.in_proj_bias.any()
    assert not block.attention.out_proj.bias.any()
    assert block.attention.num_heads == 4
