"""Random weights in the layout of RDE's official code."""

import pytest
import torch


def blocks(prefix, width, count, normal):
    weights = {}
    for index in range(count):
        block = f"{prefix}.resblocks.{index}"
        weights |= {
            f"{block}.attn.in_proj_weight": normal(3 * width, width),
            f"{block}.attn.in_proj_bias": normal(3 * width),
            f"{block}.attn.out_proj.weight": normal(width, width),
            f"{block}.attn.out_proj.bias": normal(width),
            f"{block}.ln_1.weight": 1 + normal(width),
            f"{block}.ln_1.bias": normal(width),
            f"{block}.mlp.c_fc.weight": normal(4 * width, width),
            f"{block}.mlp.c_fc.bias": normal(4 * width),
            f"{block}.mlp.c_proj.weight": normal(width, 4 * width),
            f"{block}.mlp.c_proj.bias": normal(width),
            f"{block}.ln_2.weight": 1 + normal(width),
            f"{block}.ln_2.bias": normal(width),
        }
    return weights


def tokens_layer(prefix, shortcut, space, tokens, normal):
    weights = {
        f"{prefix}.mlp.layers.0.weight": normal(space, space),
        f"{prefix}.mlp.layers.0.bias": normal(space),
        f"{prefix}.mlp.layers.1.weight": normal(tokens, space),
        f"{prefix}.mlp.layers.1.bias": normal(tokens),
        f"{prefix}.{shortcut}.weight": normal(tokens, space),
        f"{prefix}.{shortcut}.bias": normal(tokens),
    }
    for number, width in enumerate((space, tokens)):
        norm = f"{prefix}.mlp.bns.{number}"
        weights |= {
            f"{norm}.weight": 1 + normal(width),
            f"{norm}.bias": normal(width),
            f"{norm}.running_mean": normal(width),
            f"{norm}.running_var": 1 + normal(width).abs(),
            f"{norm}.num_batches_tracked": torch.tensor(0),
        }
    return weights


def random_weights(size, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=dtype) * 0.4

    image, text, space, tokens = (size[name] for name in ("image", "text", "space", "tokens"))
    visual, places = "base_model.visual", 1 + size["grid"][0] * size["grid"][1]
    weights = {
        f"{visual}.class_embedding": normal(image),
        f"{visual}.conv1.weight": normal(image, 3, size["patch"], size["patch"]),
        f"{visual}.positional_embedding": normal(places, image),
        f"{visual}.proj": normal(image, space),
        "base_model.token_embedding.weight": normal(size["words"], text),
        "base_model.positional_embedding": normal(size["positions"], text),
        "base_model.text_projection": normal(text, space),
        "visul_emb_layer.linear.weight": normal(tokens, space),
        "visul_emb_layer.linear.bias": normal(tokens),
    }
    for norm, width in ((f"{visual}.ln_pre", image), (f"{visual}.ln_post", image)):
        weights |= {f"{norm}.weight": 1 + normal(width), f"{norm}.bias": normal(width)}
    final = "base_model.ln_final"
    weights |= {f"{final}.weight": 1 + normal(text), f"{final}.bias": normal(text)}
    weights |= blocks(f"{visual}.transformer", image, size["blocks"], normal)
    weights |= blocks("base_model.transformer", text, size["blocks"], normal)
    weights |= tokens_layer("visul_emb_layer", "fc", space, tokens, normal)
    return weights | tokens_layer("texual_emb_layer", "linear", space, tokens, normal)


@pytest.fixture
def official_weights():
    """Return a function from sizes to weights by official name."""
    return random_weights
