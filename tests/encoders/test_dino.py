import pytest
import torch
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
)

from tireid.encoders.dino import DinoImageEncoder, Dinov2ImageEncoder

SIZES = {"patch_size": 8, "dim": 24, "depth": 2, "heads": 3, "registers": 2}


@pytest.fixture
def dino(tmp_path):
    """A DINOv3, and the folder it is saved in."""
    torch.manual_seed(0)
    model = DINOv3ViTModel(
        DINOv3ViTConfig(
            hidden_size=24,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=3,
            patch_size=8,
            num_register_tokens=2,
        )
    ).eval()
    for weight in model.parameters():
        weight.data += torch.randn_like(weight) * 0.1
    model.save_pretrained(tmp_path)
    return model, str(tmp_path)


@pytest.mark.parametrize("size", [(32, 32), (48, 16)])
def test_tokens_equal_the_library_without_the_registers(dino, size):
    model, folder = dino
    encoder = DinoImageEncoder(folder, **SIZES).eval()
    images = torch.randn(2, 3, *size)
    pooled, local, valid = encoder(images)
    expected = model(images)
    torch.testing.assert_close(pooled, expected.pooler_output, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(local, expected.last_hidden_state[:, 3:], atol=1e-5, rtol=1e-5)
    assert valid.shape == (2, size[0] * size[1] // 64)


def test_nothing_is_random_in_training(dino):
    _, folder = dino
    encoder = DinoImageEncoder(folder, **SIZES).train()
    images = torch.randn(2, 3, 48, 16)
    assert torch.equal(encoder(images).pooled, encoder(images).pooled)


def test_misfits_are_named(dino):
    _, folder = dino
    with pytest.raises(ValueError, match="do not fit this DINOv3ViTModel"):
        DinoImageEncoder(folder, **{**SIZES, "registers": 1})


@pytest.mark.parametrize("size", [(384, 128), (42, 42), (35, 60)])
def test_dinov2_equals_the_library_at_any_size(tmp_path, size):
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 3, "patch_size": 14}
    model = Dinov2Model(Dinov2Config(hidden_size=24, image_size=42, **sizes)).eval()
    for weight in model.parameters():
        weight.data += torch.randn_like(weight) * 0.1
    model.save_pretrained(tmp_path)
    encoder = Dinov2ImageEncoder(str(tmp_path), size, dim=24, depth=2, heads=3).eval()
    images = torch.randn(2, 3, *size)
    pooled, local, valid = encoder(images)
    expected = model(images)
    torch.testing.assert_close(pooled, expected.pooler_output, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(local, expected.last_hidden_state[:, 1:], atol=1e-5, rtol=1e-5)
    assert valid.shape == (2, (size[0] // 14) * (size[1] // 14))


def test_dinov2_names_what_does_not_fit(tmp_path):
    with pytest.raises(ValueError, match=r"image_size: .*14 pixels, a patch, got \[384, 12\]"):
        Dinov2ImageEncoder(image_size=(384, 12))
    encoder = Dinov2ImageEncoder(image_size=(42, 28), dim=24, depth=1, heads=3)
    with pytest.raises(ValueError, match=r"expected images of \[42, 28\]"):
        encoder(torch.zeros(1, 3, 28, 42))
    encoder.dino.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="do not fit this Dinov2Model"):
        Dinov2ImageEncoder(str(tmp_path), (42, 28), dim=24, depth=2, heads=3)
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "patch_size": 14}
    config = Dinov2WithRegistersConfig(image_size=42, num_register_tokens=2, **sizes)
    Dinov2WithRegistersModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"1 left over \(embeddings\.register_tokens\)"):
        Dinov2ImageEncoder(str(tmp_path), (42, 28), dim=24, depth=1, heads=3)
