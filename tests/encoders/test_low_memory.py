"""What is computed again instead of kept has the same gradients."""

import copy

import pytest
import torch

from tireid.encoders.bert import BertEncoder
from tireid.encoders.clip import ClipImageEncoder, ClipTextEncoder
from tireid.encoders.dino import DinoImageEncoder
from tireid.encoders.low_memory import encode_in_pieces, recompute_blocks
from tireid.encoders.lstm import BiLstmEncoder, WordEmbedding
from tireid.encoders.resnet import ResNetEncoder
from tireid.encoders.siglip import SiglipImageEncoder, SiglipTextEncoder
from tireid.encoders.vit import ViTEncoder

SIZES = {"dim": 16, "depth": 3, "heads": 2}
IMAGE = {"image_size": (32, 16), "patch_size": 8, **SIZES}
TEXT = {"vocab_size": 30, "max_positions": 12, **SIZES}
TRANSFORMERS = {
    "ViT": lambda: ViTEncoder(**IMAGE, drop_path_rate=0.5),
    "CLIP": lambda: ClipImageEncoder(**IMAGE, out_dim=8),
    "DINO": lambda: DinoImageEncoder(patch_size=8, **SIZES),
    "SigLIP": lambda: SiglipImageEncoder(**IMAGE),
    "BERT": lambda: BertEncoder(**TEXT, dropout=0.3),
    "LSTM over BERT": lambda: BiLstmEncoder(BertEncoder(**TEXT, dropout=0.3), hidden=4),
    "CLIP's texts": lambda: ClipTextEncoder(**TEXT, out_dim=8),
    "SigLIP's texts": lambda: SiglipTextEncoder(**TEXT, out_dim=8),
}
IMAGES = torch.randn(5, 3, 32, 16, dtype=torch.float64)
CAPTIONS = torch.randint(1, 30, (5, 9)), torch.arange(9) < torch.tensor([[9], [4], [6], [2], [5]])


def step(encoder):
    """Return the tokens and gradients of a training step, and the numbers kept for its backward."""
    encoder.double().train().zero_grad()
    reads_images = any(isinstance(module, torch.nn.Conv2d) for module in encoder.modules())
    kept = []
    torch.manual_seed(3)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        tokens = encoder(IMAGES) if reads_images else encoder(*CAPTIONS)
        pooled, local = tokens.pooled, tokens.local * tokens.valid[..., None]
        (pooled.square().sum() + local.pow(3).sum()).backward()
    gradients = [p.grad for p in encoder.parameters() if p.grad is not None]
    return [pooled, local, *gradients], sum(tensor.numel() for tensor in kept)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_recomputed_blocks_have_the_same_gradients_with_dropout(name):
    encoder = TRANSFORMERS[name]()
    expected, kept = step(encoder)
    recompute_blocks([encoder])
    for changed in (encoder, copy.deepcopy(encoder)):
        found, kept_now = step(changed)
        assert kept_now < 0.6 * kept
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("are_blocks_recomputed", [False, True])
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_batch_in_pieces_has_the_gradients_of_the_whole(name, are_blocks_recomputed):
    encoder = TRANSFORMERS[name]()
    for module in encoder.modules():
        for rate in {"p", "rate", "dropout_prob"} & vars(module).keys():
            setattr(module, rate, 0.0)
    if hasattr(encoder, "bert"):
        encoder.bert.config.attention_probs_dropout_prob = 0.0
    expected, kept = step(encoder)
    if are_blocks_recomputed:
        recompute_blocks([encoder])
    encode_in_pieces(encoder, 2)
    found, kept_now = step(encoder)
    assert kept_now < 0.6 * kept
    for mine, whole in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, whole, rtol=1e-9, atol=1e-9)


def test_both_computations_of_a_piece_draw_the_same_dropout():
    encoder = BertEncoder(**TEXT, dropout=0.5).double().train()
    encode_in_pieces(encoder, 2)
    torch.manual_seed(3)
    whole = encoder(*CAPTIONS).local.sum()
    after = torch.get_rng_state()
    whole.backward()
    assert torch.equal(torch.get_rng_state(), after)
    gradient = encoder.bert.embeddings.word_embeddings.weight.grad.clone()
    encoder.zero_grad()
    del encoder.forward
    torch.manual_seed(3)
    pieces = zip(*(tensor.split(2) for tensor in CAPTIONS), strict=True)
    sum(encoder(*piece).local.sum() for piece in pieces).backward()
    torch.testing.assert_close(
        encoder.bert.embeddings.word_embeddings.weight.grad, gradient, rtol=1e-9, atol=1e-12
    )


def test_what_a_method_reads_beside_the_tokens_comes_in_pieces_too():
    encoder = ClipTextEncoder(**TEXT, out_dim=8)
    tokens, attention = encoder.with_attention(*CAPTIONS)
    encode_in_pieces(encoder, 2)
    found, its_attention = encoder.with_attention(*CAPTIONS)
    torch.testing.assert_close(found, tokens)
    torch.testing.assert_close(its_attention, attention)
    assert encoder.with_attention(*CAPTIONS, wanted=False)[1] is None


def test_what_cannot_be_divided_or_computed_again_is_named():
    resnet = ResNetEncoder(layer_type="basic", embedding_size=4, hidden_sizes=[4, 4], depths=[1, 1])
    with pytest.raises(ValueError, match=r"micro_batch: expected .* got ResNetEncoder"):
        encode_in_pieces(resnet, 2)
    lstm = BiLstmEncoder(WordEmbedding(30, 8), hidden=4)
    for encoder in (resnet, lstm):
        with pytest.raises(ValueError, match="checkpoint_activations: expected an encoder that is"):
            recompute_blocks([encoder])
