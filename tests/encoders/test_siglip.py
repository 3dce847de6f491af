import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipModel

from tireid.data.datasets import pad_captions
from tireid.data.tokenizers import HubTokenizer, load_tokenizer
from tireid.encoders.patches import resize_positions
from tireid.encoders.siglip import SiglipImageEncoder, SiglipTextEncoder

SIZES = {"dim": 24, "depth": 2, "heads": 3}
LIBRARY = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 96,
}
TEXT = {"vocab_size": 40, "max_positions": 12, "out_dim": 24}


@pytest.fixture
def siglip(tmp_path):
    """A whole SigLIP, and the folder it is saved in."""
    torch.manual_seed(0)
    text = {"vocab_size": 40, "max_position_embeddings": 12, "pad_token_id": 0}
    ids = {"bos_token_id": 2, "eos_token_id": 1}
    config = SiglipConfig(
        text_config=LIBRARY | text | ids,
        vision_config=LIBRARY | {"image_size": 32, "patch_size": 8},
    )
    model = SiglipModel(config).eval()
    for name, weight in model.named_parameters():
        if "norm" in name or "bias" in name or "position" in name:
            weight.data = torch.randn_like(weight) * 0.5
    model.save_pretrained(tmp_path)
    return model, str(tmp_path)


def test_image_tower_equals_the_library(siglip):
    model, folder = siglip
    encoder = SiglipImageEncoder(folder, image_size=[32, 32], patch_size=8, **SIZES).eval()
    images = torch.randn(2, 3, 32, 32)
    pooled, local, _ = encoder(images)
    expected = model.get_image_features(images)
    torch.testing.assert_close(pooled, expected.pooler_output, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(local, expected.last_hidden_state, atol=1e-5, rtol=1e-5)


def test_image_positions_move_to_the_new_grid(siglip):
    model, folder = siglip
    encoder = SiglipImageEncoder(folder, image_size=[48, 16], patch_size=8, **SIZES)
    table = model.vision_model.embeddings.position_embedding.weight.data
    expected = resize_positions(table[None], old_grid=(4, 4), new_grid=(6, 2), class_tokens=0)[0]
    assert torch.equal(encoder.siglip.embeddings.position_embedding.weight, expected)
    assert encoder(torch.randn(1, 3, 48, 16)).local.shape == (1, 12, 24)


def test_text_tower_equals_the_library_on_captions_padded_to_the_full_length(siglip):
    model, folder = siglip
    encoder = SiglipTextEncoder(folder, **TEXT, **SIZES).eval()
    short = torch.tensor([[5, 9, 1, 0], [7, 7, 8, 1]])
    pooled, local, _ = encoder(short, short > 0)
    full = F.pad(short, (0, 8))
    expected = model.get_text_features(full)
    torch.testing.assert_close(pooled, expected.pooler_output, atol=1e-5, rtol=1e-5)
    words = model.text_model.head(expected.last_hidden_state[:, :4])
    torch.testing.assert_close(local, words, atol=1e-5, rtol=1e-5)
    unpadded = model.get_text_features(short).pooler_output
    assert F.cosine_similarity(pooled, unpadded).max() < 0.999  # the trap


def test_a_method_that_reads_no_pooled_feature_leaves_nothing_without_a_gradient():
    encoder = SiglipImageEncoder(image_size=[32, 32], patch_size=8, **SIZES)
    encoder.freeze_pooling()
    encoder(torch.randn(2, 3, 32, 32)).local.sum().backward()
    assert all((w.grad is not None) == w.requires_grad for w in encoder.parameters())


def test_captions_are_lower_cased_before_a_vocabulary_that_would_not(tmp_path):
    backend = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "?": 2, "red": 3}, "?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    library = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", unk_token="?")  # noqa: S106 -- words
    library.save_pretrained(tmp_path / "hub")
    plain = HubTokenizer(str(tmp_path / "hub"), 4)
    lower = HubTokenizer(str(tmp_path / "hub"), 4, lowercase=True)
    captions = ["Red RED", "red red red red"]
    assert plain(captions)[0] == [2, 2, 1]
    assert lower(captions) == [[3, 3, 1], [3, 3, 3, 1]]
    lower.save(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved")(captions) == lower(captions)
    assert pad_captions(lower(captions), lower.pad_id)[0].tolist()[0] == [3, 3, 1, 0]


def test_the_published_text_config_lower_cases_and_pads_to_64(compose_config):
    config = compose_config("text_encoder=siglip2_base").text_encoder
    assert config.tokenizer.lowercase is True
    assert config.tokenizer.max_length == config.module.max_positions == 64
