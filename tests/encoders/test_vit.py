import pickle
import zipfile

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from tireid.encoders.patches import resize_positions
from tireid.encoders.vit import DropPath, ViTEncoder

DIM, DEPTH, HEADS, PATCH = 24, 4, 3, 8
SIZES = {"dim": DIM, "depth": DEPTH, "heads": HEADS, "patch_size": PATCH}
LIBRARY = {
    "hidden_size": DIM,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS,
    "intermediate_size": 4 * DIM,
    "image_size": 32,
    "patch_size": PATCH,
    "layer_norm_eps": 1e-6,
}


def shaken(model: nn.Module) -> nn.Module:
    """Weights far from their initial values, so that biases, scales and positions count."""
    torch.manual_seed(0)
    for weight in model.parameters():
        weight.data = torch.randn_like(weight) * 0.3
    return model.eval()


def original_layout(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A DeiT of transformers under the names of the original release, written out one by one."""
    new = {
        "cls_token": state["deit.embeddings.cls_token"],
        "dist_token": state["deit.embeddings.distillation_token"],
        "pos_embed": state["deit.embeddings.position_embeddings"],
        "patch_embed.proj.weight": state["deit.embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": state["deit.embeddings.patch_embeddings.projection.bias"],
    }
    for kind in ("weight", "bias"):
        for index in range(DEPTH):
            old, block = f"deit.layers.{index}.", f"blocks.{index}."
            new[f"{block}norm1.{kind}"] = state[f"{old}layernorm_before.{kind}"]
            new[f"{block}norm2.{kind}"] = state[f"{old}layernorm_after.{kind}"]
            new[f"{block}attn.qkv.{kind}"] = torch.cat(
                [state[f"{old}attention.{part}_proj.{kind}"] for part in ("q", "k", "v")]
            )
            new[f"{block}attn.proj.{kind}"] = state[f"{old}attention.o_proj.{kind}"]
            new[f"{block}mlp.fc1.{kind}"] = state[f"{old}mlp.fc1.{kind}"]
            new[f"{block}mlp.fc2.{kind}"] = state[f"{old}mlp.fc2.{kind}"]
        new[f"norm.{kind}"] = state[f"deit.layernorm.{kind}"]
        new[f"head.{kind}"] = state[f"cls_classifier.{kind}"]
        new[f"head_dist.{kind}"] = state[f"distillation_classifier.{kind}"]
    return new


@pytest.fixture
def deit(tmp_path):
    """A distilled DeiT: (model, folder of transformers, file of the original layout)."""
    model = shaken(DeiTForImageClassificationWithTeacher(DeiTConfig(**LIBRARY)))
    model.save_pretrained(tmp_path / "folder")
    torch.save({"model": original_layout(model.state_dict())}, tmp_path / "small.pth")
    return model, str(tmp_path / "folder"), str(tmp_path / "small.pth")


def trunk_by_hand(
    state: dict[str, Tensor], images: Tensor, positions: Tensor, blocks: int
) -> Tensor:
    """The blocks of a pre-norm ViT from their equations; `state` in the original layout."""

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    batch, _, height, width = images.shape
    patches = [
        images[:, :, y : y + PATCH, x : x + PATCH].reshape(batch, -1)
        for y in range(0, height, PATCH)
        for x in range(0, width, PATCH)
    ]
    weight = state["patch_embed.proj.weight"].reshape(DIM, -1)
    tokens = (
        torch.stack([patch @ weight.T for patch in patches], 1) + state["patch_embed.proj.bias"]
    )
    tokens = torch.cat([state["cls_token"].expand(batch, 1, DIM), tokens], 1) + positions
    for index in range(blocks):
        block = f"blocks.{index}"
        query, key, value = linear(norm(tokens, f"{block}.norm1"), f"{block}.attn.qkv").split(
            DIM, -1
        )
        heads = []
        for head in range(HEADS):
            part = slice(head * DIM // HEADS, (head + 1) * DIM // HEADS)
            scores = query[..., part] @ key[..., part].mT / (DIM // HEADS) ** 0.5
            heads.append(scores.softmax(-1) @ value[..., part])
        tokens = tokens + linear(torch.cat(heads, -1), f"{block}.attn.proj")
        hidden = linear(norm(tokens, f"{block}.norm2"), f"{block}.mlp.fc1")
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        tokens = tokens + linear(hidden, f"{block}.mlp.fc2")
    return tokens


def test_full_depth_equals_the_library(tmp_path):
    model = shaken(ViTModel(ViTConfig(**LIBRARY)))
    model.save_pretrained(tmp_path)
    encoder = ViTEncoder(str(tmp_path), image_size=[32, 32], **SIZES).eval()
    images = torch.randn(2, 3, 32, 32)
    expected = model(images).last_hidden_state
    pooled, local, _ = encoder(images)
    torch.testing.assert_close(pooled, expected[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(local, expected[:, 1:], atol=1e-5, rtol=0)


def test_a_classifier_checkpoint_loads_too(tmp_path):
    model = shaken(ViTForImageClassification(ViTConfig(**LIBRARY)))
    model.save_pretrained(tmp_path)
    encoder = ViTEncoder(str(tmp_path), image_size=[32, 32], **SIZES).eval()
    images = torch.randn(2, 3, 32, 32)
    expected = model.vit(images).last_hidden_state[:, 0]
    torch.testing.assert_close(encoder(images).pooled, expected, atol=1e-5, rtol=0)


def test_lgur_trunk_equals_its_equations(deit):
    """Three of four blocks, no last norm, on the class position and the resized 4x4 grid."""
    model, _, file = deit
    encoder = ViTEncoder(file, image_size=[48, 16], trunk_depth=3, final_norm=False, **SIZES).eval()
    state = original_layout(model.state_dict())
    grid = state["pos_embed"][0, 2:].reshape(4, 4, DIM).permute(2, 0, 1)[None]
    grid = F.interpolate(grid, size=(6, 2), mode="bilinear", align_corners=False, antialias=False)
    positions = torch.cat([state["pos_embed"][0, :1], grid[0].permute(1, 2, 0).reshape(12, DIM)])
    images = torch.randn(2, 3, 48, 16)
    expected = trunk_by_hand(state, images, positions, blocks=3)
    pooled, local, _ = encoder(images)
    torch.testing.assert_close(pooled, expected[:, 0], atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(local, expected[:, 1:], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"trunk_depth": 3, "final_norm": False}])
def test_both_layouts_of_a_distilled_deit_load_alike(deit, options):
    _, folder, file = deit
    first = ViTEncoder(folder, image_size=[48, 16], **SIZES, **options).state_dict()
    second = ViTEncoder(file, image_size=[48, 16], **SIZES, **options).state_dict()
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def test_the_distillation_position_is_dropped(deit):
    model, folder, _ = deit
    table = model.state_dict()["deit.embeddings.position_embeddings"]
    encoder = ViTEncoder(folder, image_size=[32, 32], **SIZES)
    loaded = encoder.vit.embeddings.position_embeddings
    torch.testing.assert_close(loaded[0, 0], table[0, 0])
    torch.testing.assert_close(loaded[0, 1:], table[0, 2:])


def test_the_file_of_an_undistilled_deit_loads(deit, tmp_path):
    model, *_ = deit
    state = original_layout(model.state_dict())
    state = {key: value for key, value in state.items() if "dist" not in key}
    state["pos_embed"] = torch.cat([state["pos_embed"][:, :1], state["pos_embed"][:, 2:]], dim=1)
    torch.save({"model": state}, tmp_path / "plain.pth")
    encoder = ViTEncoder(str(tmp_path / "plain.pth"), image_size=[48, 16], **SIZES)
    expected = resize_positions(state["pos_embed"], old_grid=(4, 4), new_grid=(6, 2))
    torch.testing.assert_close(encoder.vit.embeddings.position_embeddings.data, expected)


def test_unused_blocks_are_not_made():
    full = ViTEncoder(image_size=[32, 16], final_norm=False, **SIZES).eval()
    trunk = ViTEncoder(image_size=[32, 16], final_norm=False, trunk_depth=2, **SIZES).eval()
    state = full.state_dict()
    unused = {key for key in state if key.startswith(("vit.layers.2.", "vit.layers.3."))}
    assert trunk.state_dict().keys() == state.keys() - unused
    trunk.load_state_dict({key: value for key, value in state.items() if key not in unused})
    images = torch.randn(2, 3, 32, 16)
    after_two = full.vit(images, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(trunk(images).local, after_two[:, 1:])
    with pytest.raises(ValueError, match="expected 1 to depth=4, got 5"):
        ViTEncoder(trunk_depth=5, **SIZES)


def test_drop_path_keeps_the_expectation_and_whole_samples():
    torch.manual_seed(0)
    ones = torch.ones(20_000, 2, 3)
    dropped = DropPath(0.3)(ones)
    first = dropped[:, :1, :1]
    assert torch.equal(dropped, first.expand_as(dropped))
    torch.testing.assert_close(first.unique(), torch.tensor([0.0, 1 / 0.7]))
    # Standard error: sqrt(0.3 / 0.7 / 20000) = 0.0046.
    assert dropped.mean() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(DropPath(0.3).eval()(ones), ones)
    with pytest.raises(ValueError, match="0 <= rate < 1, got 1"):
        DropPath(1.0)


def test_drop_path_grows_over_the_original_depth():
    encoder = ViTEncoder(image_size=[32, 16], trunk_depth=3, drop_path_rate=0.3, **SIZES)
    assert [layer.dropout.rate for layer in encoder.vit.layers] == pytest.approx([0, 0.1, 0.2])
    images = torch.randn(2, 3, 32, 16)
    plain = ViTEncoder(image_size=[32, 16], trunk_depth=3, **SIZES)
    plain.load_state_dict(encoder.state_dict())
    assert torch.equal(encoder.eval()(images).local, plain.train()(images).local)


def test_drop_path_covers_both_residuals_of_a_block():
    encoder = ViTEncoder(image_size=[32, 16], final_norm=False, **SIZES).train()
    for layer in encoder.vit.layers:
        layer.dropout.rate = 1 - 1e-7
    images = torch.randn(2, 3, 32, 16)
    torch.testing.assert_close(encoder(images).local, encoder.vit.embeddings(images)[:, 1:])


def test_a_checkpoint_of_other_sizes_is_refused(deit):
    _, folder, file = deit
    for source in (folder, file):
        with pytest.raises(ValueError, match=r"do not fit.*16 left over \(layers.3.") as error:
            ViTEncoder(source, image_size=[32, 16], **{**SIZES, "depth": 3})
        assert source in str(error.value)
        with pytest.raises(ValueError, match=r"of another shape .*expected"):
            ViTEncoder(source, image_size=[32, 16], **{**SIZES, "patch_size": 4})


@pytest.mark.parametrize("content", [b"no checkpoint", None, {"weights": 1}])
def test_an_unreadable_file_is_named(content, tmp_path):
    file = tmp_path / "deit.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(ValueError, match="pretrained=false") as error:
        ViTEncoder(str(file), image_size=[32, 16], **SIZES)
    assert str(file) in str(error.value)


@pytest.mark.parametrize("kind", ["bomb", "number", "infinite", "code"])
def test_a_file_is_bounded_and_checked_like_any_checkpoint(deit, tmp_path, kind):
    state, file = original_layout(deit[0].state_dict()), tmp_path / "deit.pth"
    expected = {"number": "no tensor by name", "infinite": "not finite in pos_embed"}
    if kind == "bomb":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(10**6))
    elif kind == "code":
        file.write_bytes(pickle.dumps({"model": print}))
    else:
        state["pos_embed"] = 3 if kind == "number" else state["pos_embed"] / 0
        torch.save({"model": state}, file)
    message = expected.get(kind, "compressed parts" if kind == "bomb" else "may carry code; none")
    with pytest.raises(ValueError, match=rf"deit\.pth' as a DeiT file.*{message}"):
        ViTEncoder(str(file), image_size=[32, 16], **SIZES)


def test_another_family_is_refused(tmp_path):
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 9}
    BertModel(BertConfig(num_hidden_layers=1, **sizes)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="expected a ViT or DeiT in"):
        ViTEncoder(str(tmp_path), image_size=[32, 16], **SIZES)


def test_positions_of_no_square_grid_are_refused(deit, tmp_path):
    state = original_layout(deit[0].state_dict())
    state["pos_embed"] = state["pos_embed"][:, :-1]
    torch.save({"model": state}, tmp_path / "deit.pth")
    with pytest.raises(ValueError, match=r"square grid in .* got a table of \(1, 17, 24\)"):
        ViTEncoder(str(tmp_path / "deit.pth"), image_size=[32, 16], **SIZES)
