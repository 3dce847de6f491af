import pytest
import torch
from torch.nn import functional as F
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
)

from tireid.encoders.clip import ClipImageEncoder, ClipTextEncoder
from tireid.encoders.patches import resize_positions
from tireid.losses.contrastive import InfoNceLoss
from tireid.methods.baseline import Baseline
from tireid.retrieval import evaluate_embeddings

SIZES = {"dim": 24, "depth": 2, "heads": 3, "out_dim": 16}
LIBRARY = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "projection_dim": 16,
}
VOCABULARY = {
    "vocab_size": 40,
    "max_position_embeddings": 12,
    "bos_token_id": 38,
    "eos_token_id": 39,
}


@pytest.fixture
def clip(tmp_path):
    """A whole CLIP, and the folder it is saved in."""
    torch.manual_seed(0)
    vision = CLIPVisionConfig(image_size=32, patch_size=8, **LIBRARY)
    text = CLIPTextConfig(**VOCABULARY, **LIBRARY)
    config = CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=16
    )
    model = CLIPModel(config).eval()
    for name, weight in model.named_parameters():
        if "norm" in name or "bias" in name or "position" in name:
            weight.data = torch.randn_like(weight) * 0.5
    model.save_pretrained(tmp_path)
    return model, str(tmp_path)


def test_image_tower_equals_the_library(clip):
    model, folder = clip
    encoder = ClipImageEncoder(folder, image_size=[32, 32], patch_size=8, **SIZES).eval()
    images = torch.randn(2, 3, 32, 32)
    pooled, local, _ = encoder(images)
    expected = model.get_image_features(images).pooler_output
    torch.testing.assert_close(pooled, expected, atol=1e-5, rtol=1e-5)
    vision = model.vision_model
    patches = vision.post_layernorm(vision(images).last_hidden_state[:, 1:])
    torch.testing.assert_close(local, model.visual_projection(patches), atol=1e-5, rtol=1e-5)


def test_reading_a_tower_lists_no_weights_of_the_other(clip, capfd):
    model, folder = clip
    capfd.readouterr()
    ClipTextEncoder(folder, vocab_size=40, max_positions=12, **SIZES)
    said = "".join(capfd.readouterr())
    assert "UNEXPECTED" not in said
    assert not [name for name in model.state_dict() if name in said]


def test_image_positions_move_to_the_new_grid(clip):
    model, folder = clip
    encoder = ClipImageEncoder(folder, image_size=[48, 16], patch_size=8, **SIZES)
    table = model.vision_model.embeddings.position_embedding.weight.data
    expected = resize_positions(table[None], old_grid=(4, 4), new_grid=(6, 2))[0]
    loaded = encoder.clip.vision_model.embeddings.position_embedding.weight.data
    torch.testing.assert_close(loaded, expected)
    assert encoder(torch.randn(1, 3, 48, 16)).local.shape == (1, 12, 16)


def test_text_tower_equals_the_library(clip):
    model, folder = clip
    encoder = ClipTextEncoder(folder, vocab_size=40, max_positions=12, **SIZES).eval()
    token_ids = torch.tensor([[38, 5, 9, 39, 0, 0, 0], [38, 7, 7, 8, 2, 3, 39]])
    valid = torch.tensor([[True] * 4 + [False] * 3, [True] * 7])
    pooled, local, _ = encoder(token_ids, valid)
    expected = model.get_text_features(token_ids, attention_mask=valid.long()).pooler_output
    torch.testing.assert_close(pooled, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(local[0, 3], pooled[0])
    assert torch.equal(local[1, 6], pooled[1])


def test_text_is_pooled_where_validity_ends_not_at_the_highest_id(clip):
    _, folder = clip
    encoder = ClipTextEncoder(folder, vocab_size=40, max_positions=12, **SIZES).eval()
    token_ids = torch.tensor([[38, 39, 9, 1]])
    pooled, local, _ = encoder(token_ids, torch.tensor([[True, True, True, False]]))
    assert torch.equal(pooled[0], local[0, 2])


def test_words_do_not_see_those_after_them(clip):
    _, folder = clip
    encoder = ClipTextEncoder(folder, vocab_size=40, max_positions=12, **SIZES).eval()
    first, second = torch.tensor([[38, 5, 6, 7, 39]]), torch.tensor([[38, 5, 6, 9, 11]])
    valid = torch.ones(1, 5, dtype=torch.bool)
    left, right = encoder(first, valid).local, encoder(second, valid).local
    torch.testing.assert_close(left[:, :3], right[:, :3], atol=1e-6, rtol=0)
    assert not torch.allclose(left[:, 3:], right[:, 3:], atol=1e-3)


def test_a_text_tower_alone_loads(tmp_path):
    model = CLIPTextModelWithProjection(CLIPTextConfig(**VOCABULARY, **LIBRARY))
    model.save_pretrained(tmp_path)
    encoder = ClipTextEncoder(str(tmp_path), vocab_size=40, max_positions=12, **SIZES)
    for key, value in model.state_dict().items():
        assert torch.equal(encoder.clip.state_dict()[key], value), key


def test_an_untrained_dual_encoder_ranks_as_clip_does(clip):
    model, folder = clip
    encoders = {
        "image_encoder": ClipImageEncoder(folder, image_size=[32, 32], patch_size=8, **SIZES),
        "text_encoder": ClipTextEncoder(folder, vocab_size=40, max_positions=12, **SIZES),
    }
    dual = Baseline(
        num_train_pids=3,
        alignment=InfoNceLoss(),
        embedding_dim=16,
        projection="pretrained",
        **encoders,
    ).eval()
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(30, 3, 32, 32, generator=generator)
    token_ids = torch.randint(1, 38, (30, 9), generator=generator)
    token_ids[:, 0], token_ids[:, -1] = 38, 39
    with torch.no_grad():
        texts = dual.encode_text(token_ids, torch.ones_like(token_ids, dtype=torch.bool))
        found = evaluate_embeddings(texts, dual.encode_image(images), *[torch.arange(30)] * 2)
        theirs = [
            F.normalize(features.pooler_output, dim=-1)
            for features in (model.get_text_features(token_ids), model.get_image_features(images))
        ]
    assert found == evaluate_embeddings(*theirs, *[torch.arange(30)] * 2)
    torch.testing.assert_close(texts, theirs[0], atol=1e-6, rtol=0)


def test_a_tower_of_a_whole_clip_loads_without_a_word(clip, capfd, caplog):
    _, folder = clip
    capfd.readouterr()
    ClipTextEncoder(folder, vocab_size=40, max_positions=12, **SIZES)
    said = capfd.readouterr()
    assert "UNEXPECTED" not in said.out + said.err + caplog.text


def test_misfits_are_named(clip):
    _, folder = clip
    with pytest.raises(ValueError, match=r"token_embedding.weight is \(40, 24\), expected \(41"):
        ClipTextEncoder(folder, vocab_size=41, max_positions=12, **SIZES)
    with pytest.raises(
        ValueError, match=r"do not fit this CLIPVisionModelWithProjection: 16 missing"
    ):
        ClipImageEncoder(folder, image_size=[32, 32], patch_size=8, **{**SIZES, "depth": 3})


@pytest.mark.parametrize("kind", ["image", "text"])
def test_attention_of_the_last_block_is_that_of_transformers(kind):
    """The row of the token whose feature is ranked, mean over the heads; tokens stay the same."""
    if kind == "image":
        encoder = ClipImageEncoder(
            image_size=(32, 16), patch_size=8, dim=24, depth=3, heads=4, out_dim=12
        ).eval()
        images = torch.randn(2, 3, 32, 16, generator=torch.Generator().manual_seed(0))
        encoder.clip.set_attn_implementation("eager")
        vision = encoder.clip.vision_model
        tokens, found = encoder.with_attention(images)
        x = vision.pre_layrnorm(vision.embeddings(images))
        for layer in vision.encoder.layers[:-1]:
            x = layer(x, None)
        last = vision.encoder.layers[-1]
        weights = last.self_attn(last.layer_norm1(x), attention_mask=None)[1]
        expected = weights.mean(1)[:, 0, 1:]
        plain = encoder(images)
    else:
        encoder = ClipTextEncoder(vocab_size=40, dim=24, depth=3, heads=4, max_positions=9).eval()
        ids = torch.tensor([[38, 4, 5, 6, 39, 0, 0], [38, 39, 0, 0, 0, 0, 0]])
        valid = torch.arange(7) < torch.tensor([[5], [2]])
        encoder.clip.set_attn_implementation("eager")
        tokens, found = encoder.with_attention(ids, valid)
        weights = encoder.clip.text_model(ids, output_attentions=True).attentions[-1].mean(1)
        expected = weights[torch.arange(2), valid.sum(1) - 1]
        plain = encoder(ids, valid)
    torch.testing.assert_close(found, expected)
    assert not found.requires_grad
    assert torch.equal(plain.local, tokens.local)
    assert torch.equal(plain.pooled, tokens.pooled)
