import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel

from tireid.encoders.resnet import ResNetEncoder

SIZES = {"embedding_size": 8, "hidden_sizes": [16, 24, 32, 40], "depths": [1, 2, 1, 2]}


@pytest.fixture(params=["basic", "bottleneck"])
def checkpoint(request, tmp_path):
    """A classifier with statistics of its own, and the folder it is saved in."""
    torch.manual_seed(0)
    config = ResNetConfig(layer_type=request.param, **SIZES)
    model = ResNetForImageClassification(config).train()
    model(torch.randn(8, 3, 64, 32))
    model.eval().save_pretrained(tmp_path)
    return model, str(tmp_path), request.param


def test_equals_the_library_row_by_row(checkpoint):
    model, folder, layer_type = checkpoint
    encoder = ResNetEncoder(folder, layer_type=layer_type, pool="avg", **SIZES).eval()
    images = torch.randn(2, 3, 128, 96)
    expected = model.resnet(images)
    pooled, local, _ = encoder(images)
    assert local.shape == (2, 4 * 3, 40)
    for row in range(4):
        for column in range(3):
            torch.testing.assert_close(
                local[:, row * 3 + column], expected.last_hidden_state[:, :, row, column]
            )
    torch.testing.assert_close(pooled, expected.pooler_output[:, :, 0, 0])


@pytest.mark.parametrize("layer_type", ["basic", "bottleneck"])
def test_a_seed_gives_the_weights_and_the_features_of_the_library_to_the_bit(layer_type):
    torch.manual_seed(5)
    library = ResNetModel(ResNetConfig(layer_type=layer_type, **SIZES)).train()
    after = torch.get_rng_state()
    torch.manual_seed(5)
    encoder = ResNetEncoder(layer_type=layer_type, channels_last=False, **SIZES).train()
    assert torch.equal(torch.get_rng_state(), after)
    weights = encoder.resnet.state_dict()
    assert list(weights) == list(library.state_dict())
    assert all(torch.equal(weights[name], value) for name, value in library.state_dict().items())
    library.eval()
    encoder.eval()
    images = torch.randn(2, 3, 64, 32)
    expected = library(images).last_hidden_state.flatten(2).mT
    local = encoder(images).local
    assert torch.equal(local, expected)
    local.sum().backward()
    expected.sum().backward()
    for mine, theirs in zip(encoder.parameters(), library.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)


def test_last_stride_one_doubles_the_map_with_the_same_weights(checkpoint):
    model, folder, layer_type = checkpoint
    encoder = ResNetEncoder(folder, layer_type=layer_type, last_stride=1, **SIZES).eval()
    images = torch.randn(1, 3, 128, 64)
    local = encoder(images).local
    assert local.shape == (1, 8 * 4, 40)
    before = model.resnet(images, output_hidden_states=True).hidden_states[-2]
    first = model.resnet.encoder.stages[-1].layers[0]
    for module in model.resnet.encoder.stages[-1].modules():
        if isinstance(module, torch.nn.Conv2d) and module.stride == (2, 2):
            module.stride = (1, 1)
    assert first(before).shape[2:] == before.shape[2:]
    expected = model.resnet.encoder.stages[-1](before)
    torch.testing.assert_close(local, expected.flatten(2).mT)


@pytest.mark.parametrize(("pool", "reduce"), [("max", torch.amax), ("avg", torch.mean)])
def test_pooling_is_over_the_whole_map(pool, reduce):
    encoder = ResNetEncoder(layer_type="basic", pool=pool, **SIZES).eval()
    pooled, local, _ = encoder(torch.randn(2, 3, 64, 64))
    torch.testing.assert_close(pooled, reduce(local, dim=1))


def test_small_stem_halves_only_once():
    options = {"layer_type": "basic", "stem": "small", **SIZES}
    assert ResNetEncoder(**options).eval()(torch.randn(1, 3, 64, 32)).local.shape[1] == 4 * 2
    encoder = ResNetEncoder(last_stride=1, **options).eval()
    assert encoder(torch.randn(1, 3, 64, 32)).local.shape[1] == 8 * 4


def test_memory_format_changes_nothing_else():
    first = ResNetEncoder(layer_type="basic", channels_last=True, **SIZES).eval()
    second = ResNetEncoder(layer_type="basic", channels_last=False, **SIZES).eval()
    second.load_state_dict(first.state_dict())
    assert (
        first.resnet.encoder.stages[1]
        .layers[0]
        .layer[0]
        .convolution.weight.is_contiguous(memory_format=torch.channels_last)
    )
    images = torch.randn(2, 3, 64, 32)
    torch.testing.assert_close(first(images).local, second(images).local, atol=1e-5, rtol=1e-5)


def test_sizes_must_agree(checkpoint):
    _, folder, layer_type = checkpoint
    with pytest.raises(
        ValueError, match=r"as many hidden_sizes as depths, got \[8, 16\] and \[1\]"
    ):
        ResNetEncoder(hidden_sizes=[8, 16], depths=[1])
    with pytest.raises(ValueError, match=r"do not fit this ResidualNetwork.*left over"):
        ResNetEncoder(folder, layer_type=layer_type, **{**SIZES, "depths": [1, 1, 1, 2]})
