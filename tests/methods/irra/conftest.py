"""IRRA's official module, written from a description and on the official names.

All is in float64: only weights and gradients, which pass through the conversion, are rounded to
float32.
"""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F


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


@pytest.fixture(scope="session")
def official():
    """Return the module, from weights and sizes, and random weights of some sizes."""
    return SimpleNamespace(module=Official, weights=official_weights)
