"""LoRA: few weights are trained, and what is saved loads like any other weights."""

import pytest
import torch
from torch import nn

from tireid.encoders.low_rank import LowRankLinear, adapt
from tireid.inference.build import build_encoders, build_model
from tireid.runs.weights import read_weights, write_weights

CLIP = ["image_encoder=clip_tiny", "text_encoder=clip_text_tiny"]


def built(compose_config, tmp_path, *overrides, rank=0):
    cfg = compose_config("model=baseline", *overrides, f"paths.output_dir={tmp_path}")
    torch.manual_seed(0)
    model = build_model(cfg, build_encoders(cfg), 5)
    adapt(model, model.parameter_groups(), rank)
    return model


def drawn(layer):
    """A layer whose product is no longer zero."""
    nn.init.normal_(layer.lora_up)
    return layer


def test_the_product_is_added_to_the_linear_map():
    linear = nn.Linear(6, 5).double()
    x = torch.randn(3, 4, 6, dtype=torch.float64)
    assert torch.equal(LowRankLinear(linear, 2)(x), linear(x))
    layer = drawn(LowRankLinear(linear, 2))
    expected = torch.empty(3, 4, 5, dtype=torch.float64)
    for place in torch.cartesian_prod(torch.arange(3), torch.arange(4)):
        row = x[tuple(place)]
        added = [sum(up[r] * (layer.lora_down[r] @ row) for r in range(2)) for up in layer.lora_up]
        expected[tuple(place)] = linear(row) + torch.stack(added)
    for is_training in (True, False):
        torch.testing.assert_close(layer.train(is_training)(x), expected)


@pytest.mark.parametrize("encoders", [CLIP, ["image_encoder=vit_tiny", "text_encoder=bert_tiny"]])
def test_products_heads_and_what_follows_the_blocks_are_trained(compose_config, tmp_path, encoders):
    plain = built(compose_config, tmp_path, *encoders)
    model = built(compose_config, tmp_path, *encoders, rank=3)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    added = {name for name in trained if name.endswith(("lora_down", "lora_up"))}
    assert trained - added | frozen == {name for name, _ in plain.named_parameters()}
    assert all("layer" in name or "embed" in name or "pre_layr" in name for name in frozen)
    assert not any(".layer.0." in name or ".layers.0." in name for name in trained - added)
    linear = [n for n, m in plain.named_modules() if type(m) is nn.Linear and ".layer" in n]
    assert added == {f"{name}.lora_{part}" for name in linear for part in ("down", "up")} != set()
    assert {"classifier.weight"} < trained


def test_frozen_blocks_get_no_products(compose_config, tmp_path):
    model = built(compose_config, tmp_path, *CLIP)
    block = model.image_encoder.clip.vision_model.encoder.layers[0].requires_grad_(False)
    adapt(model, model.parameter_groups(), 2)
    assert not any(isinstance(module, LowRankLinear) for module in block.modules())
    assert any(isinstance(module, LowRankLinear) for module in model.modules())


def test_without_a_transformer_that_is_trained_it_says_so(compose_config, tmp_path):
    with pytest.raises(ValueError, match="lora_rank: expected an encoder that is a transformer"):
        built(compose_config, tmp_path, rank=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saved_weights_are_those_of_a_plain_model_and_embed_alike(compose_config, tmp_path, dtype):
    model = built(compose_config, tmp_path, *CLIP, rank=2).eval()
    for module in model.modules():
        if isinstance(module, LowRankLinear):
            drawn(module)
    write_weights(tmp_path / "model.safetensors", model.state_dict())
    plain = built(compose_config, tmp_path, *CLIP).eval()
    plain.load_state_dict(read_weights(tmp_path / "model.safetensors"), strict=True)
    images = torch.randn(2, 3, *model.image_encoder.image_size)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
        assert torch.equal(model.encode_image(images), plain.encode_image(images))
        model.image_encoder.train()
        close = {"atol": 0.05, "rtol": 0} if dtype == torch.bfloat16 else {}
        torch.testing.assert_close(model.encode_image(images), plain.encode_image(images), **close)


def test_products_that_do_not_fit_stay_and_those_that_overflow_are_refused(tmp_path):
    weight, file = torch.zeros(3, 4), tmp_path / "model.safetensors"
    for down, up in [((2, 4), (3, 1)), ((2,), (3, 2)), ((2, 3), (3, 2)), ((1, 4), (2, 1))]:
        state = {"a.weight": weight, "a.lora_down": torch.ones(down), "a.lora_up": torch.ones(up)}
        write_weights(file, state)
        assert read_weights(file).keys() == state.keys()
    large = {"a.lora_down": torch.full((1, 4), 1e30), "a.lora_up": torch.full((3, 1), 1e30)}
    write_weights(file, {"a.weight": weight} | large)
    with pytest.raises(ValueError, match=r"not finite in a\.weight"):
        read_weights(file)
