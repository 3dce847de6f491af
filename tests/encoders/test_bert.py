import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertModel

from tireid.encoders.bert import BertEncoder

SIZES = {"vocab_size": 40, "dim": 24, "depth": 2, "heads": 3, "max_positions": 12}
TOKEN_IDS = torch.tensor([[2, 9, 3, 0, 0], [2, 5, 6, 7, 3]])
VALID = TOKEN_IDS != 0


@pytest.fixture
def config():
    return BertConfig(
        vocab_size=40,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=96,
        max_position_embeddings=12,
    )


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", [BertModel, BertForMaskedLM])
def test_equals_the_library(kind, frozen, config, tmp_path):
    model = kind(config).eval()
    model.save_pretrained(tmp_path)
    encoder = BertEncoder(str(tmp_path), frozen=frozen, **SIZES).eval()
    body = model if kind is BertModel else model.bert
    expected = body(TOKEN_IDS, attention_mask=VALID.long()).last_hidden_state
    pooled, local, valid = encoder(TOKEN_IDS, VALID)
    torch.testing.assert_close(local[VALID], expected[VALID], atol=1e-5, rtol=0)
    torch.testing.assert_close(pooled, expected[:, 0], atol=1e-5, rtol=0)
    assert torch.equal(valid, VALID)


def test_frozen_has_no_gradients_and_stays_in_evaluation_mode():
    encoder = torch.nn.ModuleList([BertEncoder(frozen=True, **SIZES)]).train()[0]
    assert encoder.training
    assert not any(module.training for module in encoder.bert.modules())
    first, second = encoder(TOKEN_IDS, VALID), encoder(TOKEN_IDS, VALID)
    assert torch.equal(first.local, second.local)
    assert not first.local.requires_grad
    assert not any(weight.requires_grad for weight in encoder.parameters())


def test_trained_has_gradients_and_dropout():
    encoder = BertEncoder(**SIZES).train()
    first, second = encoder(TOKEN_IDS, VALID), encoder(TOKEN_IDS, VALID)
    assert first.local.requires_grad
    assert not torch.allclose(first.local, second.local)
    with torch.no_grad():
        assert not encoder(TOKEN_IDS, VALID).local.requires_grad


def test_a_checkpoint_of_another_vocabulary_is_refused(config, tmp_path):
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"word_embeddings.weight is \(40, 24\), expected \(50, 24\)"
    ):
        BertEncoder(str(tmp_path), **{**SIZES, "vocab_size": 50})


@pytest.mark.parametrize(
    ("mode", "random_epochs"), [("never", set()), ("official", {1, 2}), ("always", {0, 1, 2})]
)
def test_dropout_of_a_frozen_bert_follows_its_rule(mode, random_epochs):
    encoder = BertEncoder(frozen=True, frozen_dropout=mode, **SIZES)
    assert encoder.constant is (mode == "never")
    for epoch in range(3):
        encoder.train()
        encoder.set_epoch(epoch)
        first, second = encoder(TOKEN_IDS, VALID).local, encoder(TOKEN_IDS, VALID).local
        assert torch.equal(first, second) is (epoch not in random_epochs)
        encoder.eval()
        assert torch.equal(encoder(TOKEN_IDS, VALID).local, encoder(TOKEN_IDS, VALID).local)
        assert not first.requires_grad


def test_another_rule_is_refused():
    with pytest.raises(ValueError, match="never, official or always, got 'sometimes'"):
        BertEncoder(frozen=True, frozen_dropout="sometimes", **SIZES)


def test_constant_where_frozen_only():
    assert BertEncoder(frozen=True, **SIZES).constant
    assert not BertEncoder(**SIZES).constant


def test_the_fingerprint_is_of_weights_and_heads():
    """Three and four heads have weights of the same shapes."""

    def build(**changes):
        torch.manual_seed(0)
        return BertEncoder(**(SIZES | changes))

    encoder = build()
    expected = encoder.fingerprint()
    assert build(dropout=0.5, frozen=True).eval().fingerprint() == expected
    assert build(heads=4).fingerprint() != expected
    assert build(depth=1).fingerprint() != expected
    assert encoder.half().fingerprint() != expected
    encoder.float()
    weight = encoder.bert.encoder.layer[0].output.dense.weight
    weight.data[0, 0] = torch.nextafter(weight.data[0, 0], torch.tensor(1.0))
    assert encoder.fingerprint() != expected
