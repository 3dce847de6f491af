"""What every encoder of conf/ must do, whatever its family."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn

CONF = Path(__file__).parents[2] / "conf"
IMAGE = sorted(path.stem for path in (CONF / "image_encoder").glob("*.yaml"))
TEXT = sorted(path.stem for path in (CONF / "text_encoder").glob("*.yaml"))
ALL = [("image_encoder", name) for name in IMAGE] + [("text_encoder", name) for name in TEXT]
IMAGE_SIZE = [96, 32]
VOCABULARY = 60
SMALLER = {
    "dim": 32,
    "depth": 3,
    "trunk_depth": 2,
    "heads": 2,
    "hidden": 16,
    "out_dim": 24,
    "stem_dim": 20,
    "bottleneck_dim": 12,
    "vocab_size": VOCABULARY,
    "max_positions": 20,
    "embedding_size": 8,
    "hidden_sizes": [16, 24, 32, 48],
    "depths": [1, 1, 2, 1],
}
# Word embeddings alone have nothing to load, and no longest caption.
FROM_WORD_EMBEDDINGS = {"bilstm_tiny", "textcnn_tiny"}
SEES_WHOLE_PATCHES = {"dinov2_small"}  # of any image, as the library's; its patch fits few sizes
PARAMETERS = {
    # DeiT-small without its distillation parts, its twelfth block, last norm and classifier.
    "deit_small": 22_049_128 - 1_774_464 - 768 - 385_000,
    # BERT-base without pooler, and an LSTM of 2 directions x 4 gates x 384 x (768 + 384).
    "bert_bilstm": 109_482_240 - 768 * 769 + 3_538_944,
}


def load(group: str, name: str, image_size: list[int] = IMAGE_SIZE) -> DictConfig:
    """One choice of a group, at a root that holds what it refers to."""
    choice = OmegaConf.load(CONF / group / f"{name}.yaml")
    root = OmegaConf.create({"dataset": {"image_size": image_size}, group: choice})
    root[group].pretrained = False
    return root[group]


def shrink(node: DictConfig) -> None:
    for key in node:
        if isinstance(node[key], DictConfig):
            shrink(node[key])
        elif key in SMALLER:
            node[key] = SMALLER[key]


def build(group: str, name: str, seed: int = 0) -> nn.Module:
    config = load(group, name)
    if not name.endswith("_tiny"):
        shrink(config.module)
    torch.manual_seed(seed)
    return instantiate(config.module, _convert_="all").eval()


@pytest.mark.parametrize(("group", "name"), ALL)
def test_an_encoder_is_built_without_memory_on_the_meta_device(group, name):
    """So that weights are compared with a config before anything of its sizes is made."""
    shapes = {key: value.shape for key, value in build(group, name).state_dict().items()}
    with torch.device("meta"):
        planned = build(group, name).state_dict()
    assert {key: value.shape for key, value in planned.items()} == shapes
    assert all(value.is_meta for value in planned.values())


def images(count: int = 3, height: int = IMAGE_SIZE[0], width: int = IMAGE_SIZE[1]) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def captions(lengths: tuple[int, ...] = (4, 9, 6), padded_to: int = 9) -> tuple:
    generator = torch.Generator().manual_seed(2)
    token_ids = torch.randint(1, VOCABULARY, (len(lengths), 30), generator=generator)[:, :padded_to]
    valid = torch.arange(padded_to) < torch.tensor(lengths)[:, None]
    return token_ids * valid, valid


def encode(encoder: nn.Module, group: str):
    return encoder(images()) if group == "image_encoder" else encoder(*captions())


def test_the_walk_finds_every_file():
    files = [
        path for group in ("image_encoder", "text_encoder") for path in (CONF / group).iterdir()
    ]
    assert len(ALL) == len(files) > 0


@pytest.mark.parametrize(("group", "name"), ALL)
def test_full_size_is_made_from_scratch_and_carries_its_input_recipe(group, name):
    config = load(group, name, image_size=[384, 128])
    with torch.device("meta"):
        encoder = instantiate(config.module, _convert_="all")
    if name in PARAMETERS:
        assert sum(weight.numel() for weight in encoder.parameters()) == PARAMETERS[name]
    if group == "image_encoder":
        assert len(config.mean) == len(config.std) == 3
        assert config.interpolation in {"bicubic", "bilinear"}
    else:
        assert config.tokenizer._target_.startswith("tireid.data.tokenizers.")
        assert config.tokenizer.max_length > 0


@pytest.mark.parametrize(("group", "name"), ALL)
def test_pretrained_is_one_override(group, name):
    """`<group>.pretrained=...` reaches every module that can load weights."""
    config = load(group, name)
    with open_dict(config):
        config.pretrained = "somewhere"
    resolved = OmegaConf.to_container(config.module, resolve=True)

    def values(node: dict) -> list:
        found = [node["pretrained"]] if "pretrained" in node else []
        return found + [
            v for child in node.values() if isinstance(child, dict) for v in values(child)
        ]

    assert set(values(resolved)) <= {"somewhere"}
    assert values(resolved) or name in FROM_WORD_EMBEDDINGS


@pytest.mark.parametrize(("group", "name"), ALL)
def test_shapes_follow_out_dim(group, name):
    encoder = build(group, name)
    pooled, local, valid = encode(encoder, group)
    assert pooled.shape == (3, encoder.out_dim)
    assert local.shape == (3, valid.shape[1], encoder.out_dim)
    assert valid.dtype == torch.bool
    if group == "image_encoder":
        assert valid.all()
    else:
        assert torch.equal(valid, captions()[1])
    assert pooled.isfinite().all()
    assert local[valid].isfinite().all()


@pytest.mark.parametrize("name", TEXT)
def test_padding_changes_nothing(name):
    encoder = build("text_encoder", name)
    short, long = encoder(*captions(padded_to=9)), encoder(*captions(padded_to=17))
    torch.testing.assert_close(short.pooled, long.pooled, atol=1e-5, rtol=0)
    torch.testing.assert_close(short.local[short.valid], long.local[long.valid], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", TEXT)
def test_ids_at_padding_change_nothing(name):
    encoder = build("text_encoder", name)
    token_ids, valid = captions()
    other = torch.where(valid, token_ids, torch.tensor(VOCABULARY - 1))
    first, second = encoder(token_ids, valid), encoder(other, valid)
    torch.testing.assert_close(first.pooled, second.pooled, atol=1e-5, rtol=0)
    torch.testing.assert_close(first.local[valid], second.local[valid], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("group", "name"), ALL)
def test_a_sample_does_not_see_its_batch(group, name):
    encoder = build(group, name)
    whole = encode(encoder, group)
    batch = (images(),) if group == "image_encoder" else captions()
    for index in range(3):
        alone = encoder(*(part[index : index + 1] for part in batch))
        torch.testing.assert_close(alone.pooled[0], whole.pooled[index], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            alone.local[alone.valid], whole.local[index][whole.valid[index]], atol=1e-5, rtol=1e-5
        )
    assert not torch.allclose(whole.pooled[0], whole.pooled[1], atol=1e-4)


@pytest.mark.parametrize("name", IMAGE)
def test_odd_image_size(name):
    config = load("image_encoder", name)
    encoder = build("image_encoder", name)
    if "image_size" not in config.module:
        assert encoder(images(height=83, width=37)).pooled.isfinite().all()
        return
    with pytest.raises(ValueError, match=r"\[96, 32\].*\[83, 37\]"):
        encoder(images(height=83, width=37))
    config.module.image_size = [83, 37]
    if name in SEES_WHOLE_PATCHES:
        encoder = instantiate(config.module, _convert_="all")
        assert encoder(images(height=83, width=37)).valid.shape[1] == (83 // 14) * (37 // 14)
        return
    with pytest.raises(Exception, match=r"divisible by the patch of \d+ pixels, got \[83, 37\]"):
        instantiate(config.module, _convert_="all")


@pytest.mark.parametrize("name", TEXT)
def test_too_long_a_caption(name):
    encoder = build("text_encoder", name)
    token_ids, valid = torch.ones(2, 65, dtype=torch.long), torch.ones(2, 65, dtype=torch.bool)
    if name in FROM_WORD_EMBEDDINGS:
        assert encoder(token_ids, valid).pooled.isfinite().all()
    else:
        with pytest.raises(ValueError, match=r"at most \d+ tokens, got 65.*max_length"):
            encoder(token_ids, valid)


@pytest.mark.parametrize(("group", "name"), ALL)
def test_state_dict_round_trip(group, name, tmp_path):
    first, second = build(group, name, seed=0), build(group, name, seed=1)
    expected = encode(first, group)
    assert not torch.allclose(encode(second, group).pooled, expected.pooled)
    torch.save(first.state_dict(), tmp_path / "weights.pt")
    second.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    torch.testing.assert_close(encode(second, group).pooled, expected.pooled, atol=0, rtol=0)


@pytest.mark.parametrize(("group", "name"), ALL)
def test_every_trainable_weight_gets_a_finite_gradient(group, name):
    encoder = build(group, name).train()
    pooled, local, valid = encode(encoder, group)
    torch.manual_seed(3)
    score = (pooled * torch.randn_like(pooled)).sum()
    (score + (local * torch.randn_like(local))[valid].sum()).backward()
    weights = {key: weight for key, weight in encoder.named_parameters() if weight.requires_grad}
    assert weights
    for key, weight in weights.items():
        assert weight.grad is not None, key
        assert weight.grad.isfinite().all(), key
