import pytest
import torch

from tireid.encoders.bert import BertEncoder
from tireid.encoders.lstm import BiLstmEncoder, WordEmbedding
from tireid.structures import Tokens


class NoisyPadding(WordEmbedding):
    """Numbers without meaning at padding, as BERT gives."""

    def forward(self, token_ids, valid):
        local = self.table(token_ids)
        return Tokens(local[:, 0], local, valid)


LENGTHS = [3, 7, 1, 5]


@pytest.fixture
def captions():
    torch.manual_seed(0)
    token_ids = torch.randint(0, 30, (len(LENGTHS), 9))
    return token_ids, torch.arange(9) < torch.tensor(LENGTHS)[:, None]


def lstm_by_hand(features, encoder, suffix):
    """One direction over one caption (length, dim), gate by gate."""
    weights = dict(encoder.lstm.named_parameters())
    state = cell = torch.zeros(encoder.out_dim)
    outputs = []
    for feature in features:
        gates = weights[f"weight_ih_l0{suffix}"] @ feature
        gates = gates + weights[f"weight_hh_l0{suffix}"] @ state
        if encoder.lstm.bias:
            gates = gates + weights[f"bias_ih_l0{suffix}"] + weights[f"bias_hh_l0{suffix}"]
        entry, forget, candidate, output = gates.chunk(4)
        cell = forget.sigmoid() * cell + entry.sigmoid() * candidate.tanh()
        state = output.sigmoid() * cell.tanh()
        outputs.append(state)
    return torch.stack(outputs)


@pytest.mark.parametrize("pool", ["max", "mean"])
@pytest.mark.parametrize("bias", [False, True])
def test_equals_captions_one_by_one(bias, pool, captions):
    token_ids, valid = captions
    encoder = BiLstmEncoder(NoisyPadding(30, 8), hidden=6, bias=bias, pool=pool)
    pooled, local, returned = encoder(token_ids, valid)
    assert torch.equal(returned, valid)
    for row, length in enumerate(LENGTHS):
        features = encoder.embedding.table(token_ids[row, :length])
        forward = lstm_by_hand(features, encoder, "")
        backward = lstm_by_hand(features.flip(0), encoder, "_reverse").flip(0)
        expected = (forward + backward) / 2
        torch.testing.assert_close(local[row, :length], expected, atol=1e-6, rtol=1e-5)
        reduced = expected.amax(0) if pool == "max" else expected.mean(0)
        torch.testing.assert_close(pooled[row], reduced, atol=1e-6, rtol=1e-5)
    assert not local[~valid].any()


@pytest.mark.parametrize("bias", [False, True])
def test_padding_gets_no_gradient_and_gives_none(bias, captions):
    """Gradients of the weights equal those of the captions run one by one."""
    token_ids, valid = captions
    encoder = BiLstmEncoder(NoisyPadding(30, 8), hidden=6, bias=bias)
    encoder(token_ids, valid).local.square().sum().backward()
    batched = {key: weight.grad.clone() for key, weight in encoder.named_parameters()}
    encoder.zero_grad()
    for row, length in enumerate(LENGTHS):
        encoder(
            token_ids[row : row + 1, :length], valid[row : row + 1, :length]
        ).local.square().sum().backward()
    for key, weight in encoder.named_parameters():
        torch.testing.assert_close(weight.grad, batched[key], atol=1e-6, rtol=1e-4)


def test_lgur_has_the_official_weights():
    """Names and shapes of the official checkpoint; gates in the order i, f, g, o."""
    with torch.device("meta"):
        encoder = BiLstmEncoder(WordEmbedding(10, 768))
    shapes = {key: tuple(value.shape) for key, value in encoder.lstm.state_dict().items()}
    assert shapes == {
        "weight_ih_l0": (1536, 768),
        "weight_hh_l0": (1536, 384),
        "weight_ih_l0_reverse": (1536, 768),
        "weight_hh_l0_reverse": (1536, 384),
    }
    assert sum(weight.numel() for weight in encoder.lstm.parameters()) == 3_538_944


def test_a_frozen_inner_encoder_stays_frozen(captions):
    bert = BertEncoder(frozen=True, vocab_size=30, dim=8, depth=1, heads=2, max_positions=9)
    encoder = BiLstmEncoder(bert, hidden=6).train()
    encoder(*captions).local.sum().backward()
    assert all(weight.grad is None for weight in bert.parameters())
    assert all(weight.grad is not None for weight in encoder.lstm.parameters())
    assert not bert.bert.training


def test_dropout_acts_in_training_only(captions):
    encoder = BiLstmEncoder(WordEmbedding(30, 8), hidden=6, dropout=0.5)
    assert not torch.equal(encoder(*captions).local, encoder(*captions).local)
    encoder.eval()
    assert torch.equal(encoder(*captions).local, encoder(*captions).local)


def test_word_embedding_pools_the_mean_of_the_words(captions):
    token_ids, valid = captions
    encoder = WordEmbedding(30, 8)
    pooled, local, _ = encoder(token_ids, valid)
    for row, length in enumerate(LENGTHS):
        expected = encoder.table.weight[token_ids[row, :length]]
        assert torch.equal(local[row, :length], expected)
        torch.testing.assert_close(pooled[row], expected.mean(0))
    assert not local[~valid].any()


@pytest.mark.parametrize("bias", [False, True])
def test_words_given_stand_for_the_embedding(bias, captions):
    token_ids, valid = captions
    encoder = BiLstmEncoder(NoisyPadding(30, 8), hidden=6, bias=bias)
    expected = encoder(token_ids, valid)
    words = encoder.embedding(token_ids, valid).local * valid[..., None]
    encoder.embedding.forward = None
    given = encoder(token_ids, valid, words)
    assert torch.equal(given.local, expected.local)
    assert torch.equal(given.pooled, expected.pooled)
