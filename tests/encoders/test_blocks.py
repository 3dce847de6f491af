"""Rates of transformers fall towards the input, and their first blocks can be frozen."""

import pytest
import torch

from tireid.encoders.blocks import freeze_blocks
from tireid.inference.build import build_encoders, build_model
from tireid.methods.optimization import optimizer_of

CLIP = ["image_encoder=clip_tiny", "text_encoder=clip_text_tiny", "model=rde", "recipe=rde"]


def built(compose_config, tmp_path, *overrides):
    cfg = compose_config(*overrides, "recipe=scratch", f"paths.output_dir={tmp_path}")
    return build_model(cfg, build_encoders(cfg), 5)


def groups_of(model):
    return optimizer_of(model, total_steps=60)[0].param_groups


def bases(model):
    """Return the rate of every trained parameter, before the schedule."""
    names = {id(p): name for name, p in model.named_parameters()}
    groups = groups_of(model)
    rates = [(names[id(p)], group["initial_lr"]) for group in groups for p in group["params"]]
    assert len(dict(rates)) == len(rates)
    assert len({group["name"] for group in groups}) == len(groups)
    return dict(rates)


def test_rates_fall_from_block_to_block_and_the_rest_keeps_its_own(compose_config, tmp_path):
    model = built(compose_config, tmp_path, *CLIP)
    whole = bases(model)
    model.layer_decay = 0.5
    found = bases(model)
    assert found.keys() == whole.keys()
    depth = len(model.image_encoder.clip.vision_model.encoder.layers)
    vision = "image_encoder.clip.vision_model"
    factors = {
        "image_encoder.clip.visual_projection.weight": 1,
        f"{vision}.post_layernorm.bias": 1,
        f"{vision}.encoder.layers.{depth - 1}.mlp.fc1.weight": 0.5,
        f"{vision}.encoder.layers.0.mlp.fc1.bias": 0.5**depth,
        f"{vision}.pre_layrnorm.weight": 0.5 ** (depth + 1),
        f"{vision}.embeddings.class_embedding": 0.5 ** (depth + 1),
    }
    for name, factor in factors.items():
        assert found[name] == whole[name] * factor, name
    for name, rate in whole.items():
        if not name.startswith(("image_encoder", "text_encoder")):
            assert found[name] == rate


def test_first_blocks_and_embeddings_are_frozen_in_each_transformer(compose_config, tmp_path):
    model = built(compose_config, tmp_path, "image_encoder=vit_tiny", "text_encoder=bilstm_tiny")
    freeze_blocks(model, model.parameter_groups(), 1)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    expected = {
        name
        for name, _ in model.named_parameters()
        if name.startswith(("image_encoder.vit.embeddings", "image_encoder.vit.layers.0."))
    }
    assert frozen == expected != set()
    assert not frozen & bases(model).keys()
    with pytest.raises(
        ValueError, match=r"frozen_blocks: expected at most .* image_encoder, got 99"
    ):
        freeze_blocks(model, model.parameter_groups(), 99)


def test_all_blocks_can_be_frozen_even_if_nothing_follows_them(compose_config, tmp_path):
    model = built(compose_config, tmp_path, "text_encoder=bert_tiny", "model=baseline")
    with pytest.raises(ValueError, match="expected at most 2, the blocks of the text_encoder, got"):
        freeze_blocks(model, model.parameter_groups(), 3)
    freeze_blocks(model, model.parameter_groups(), 2)
    assert not any(parameter.requires_grad for parameter in model.text_encoder.parameters())


def test_without_a_transformer_both_settings_say_so(compose_config, tmp_path):
    model = built(compose_config, tmp_path, "model=baseline")
    with pytest.raises(ValueError, match=r"frozen_blocks: expected an encoder .*transformer"):
        freeze_blocks(model, model.parameter_groups(), 1)
    model.layer_decay = 0.5
    with pytest.raises(ValueError, match=r"layer_decay: expected an encoder .*transformer"):
        groups_of(model)


@pytest.mark.parametrize(
    ("group", "encoder", "last"),
    [
        ("image_encoder", "dinov2_small", "dino.layernorm.weight"),
        ("image_encoder", "dinov3_small", "dino.norm.weight"),
        ("image_encoder", "siglip2_tiny", "siglip.head.probe"),
        ("text_encoder", "bert_tiny", "bert.encoder.layer.{last}.output.dense.weight"),
        ("text_encoder", "siglip2_tiny", "siglip.head.weight"),
    ],
)
def test_the_blocks_of_every_family_are_found(compose_config, tmp_path, group, encoder, last):
    overrides = [f"{group}={encoder}", "model=baseline"]
    if encoder.startswith("dino"):
        overrides.append("image_encoder.pretrained=false")
    with torch.device("meta"):
        model = built(compose_config, tmp_path, *overrides)
    model.layer_decay = 0.5
    groups = groups_of(model)
    rates = {group["name"]: group["initial_lr"] for group in groups}
    blocks = [name for name in rates if name.startswith(f"{group}_block")]
    assert blocks == [f"{group}_block{number}" for number in range(len(blocks))] != []
    assert rates[f"{group}_embeddings"] == rates[blocks[0]] / 2
    ends = {"end": 1, f"block{len(blocks) - 1}": 0.5}
    place = next(
        g["name"]
        for g in groups
        if any(p is _named(model, group, last.format(last=len(blocks) - 1)) for p in g["params"])
    )
    assert place.removeprefix(f"{group}_") in ends


def _named(model, group, name):
    return model.get_submodule(group).get_parameter(name)
