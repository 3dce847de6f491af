import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tireid.encoders.bert import BertEncoder
from tireid.encoders.lstm import WordEmbedding
from tireid.encoders.textcnn import MaskedBatchNorm, TextCnnEncoder
from tireid.structures import Tokens

LENGTHS = [3, 7, 1, 5]
LAYOUTS = ["tipcb", "kim"]


class NoisyPadding(WordEmbedding):
    """Numbers without meaning at padding, as BERT gives."""

    def forward(self, token_ids, valid):
        local = self.table(token_ids)
        return Tokens(local[:, 0], local, valid)


@pytest.fixture
def captions():
    torch.manual_seed(0)
    token_ids = torch.randint(0, 30, (len(LENGTHS), 9))
    return token_ids, torch.arange(9) < torch.tensor(LENGTHS)[:, None]


def small(layout: str, dropout: float = 0.0) -> TextCnnEncoder:
    torch.manual_seed(1)
    return TextCnnEncoder(
        NoisyPadding(30, 8),
        layout=layout,
        out_dim=12,
        stem_dim=10,
        bottleneck_dim=6,
        kernel_sizes=(2, 3, 4),
        dropout=dropout,
    )


def randomise_norms(encoder: nn.Module) -> None:
    for module in encoder.modules():
        if isinstance(module, MaskedBatchNorm):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 2.0)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_()


def tipcb_by_hand(words, state):
    """One caption (dim, length), without padding, from the weights by their names."""

    def conv_norm(x, name):
        weight = state[f"layers.{name}.conv.weight"]
        x = F.conv1d(x[None], weight, padding=weight.shape[2] // 2)[0]
        norm = {k: state[f"layers.{name}.norm.{k}"][:, None] for k in ("weight", "bias")}
        mean, var = (state[f"layers.{name}.norm.running_{k}"][:, None] for k in ("mean", "var"))
        return (x - mean) / (var + 1e-5).sqrt() * norm["weight"] + norm["bias"]

    x = conv_norm(words, "stem").relu()
    for number in range(3):
        block = f"blocks.{number}"
        y = conv_norm(x, f"{block}.reduce").relu()
        y = conv_norm(conv_norm(y, f"{block}.mix").relu(), f"{block}.expand")
        x = (y + (conv_norm(x, f"{block}.shortcut") if number == 0 else x)).relu()
    return x


def kim_by_hand(words, state):
    """Word by word: the window of size k begins (k - 1) // 2 words before it, zeros outside."""
    outputs = []
    for number, size in enumerate((2, 3, 4)):
        weight = state[f"layers.windows.{number}.weight"]
        columns = []
        for position in range(words.shape[1]):
            column = state[f"layers.windows.{number}.bias"].clone()
            for offset in range(size):
                place = position - (size - 1) // 2 + offset
                if 0 <= place < words.shape[1]:
                    column += weight[:, :, offset] @ words[:, place]
            columns.append(column)
        outputs.append(torch.stack(columns, dim=1))
    return torch.cat(outputs).relu()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_equals_captions_one_by_one(layout, captions):
    token_ids, valid = captions
    encoder = small(layout).eval()
    randomise_norms(encoder)
    pooled, local, returned = encoder(token_ids, valid)
    assert torch.equal(returned, valid)
    by_hand = tipcb_by_hand if layout == "tipcb" else kim_by_hand
    for row, length in enumerate(LENGTHS):
        words = encoder.embedding.table(token_ids[row, :length]).mT
        expected = by_hand(words, encoder.state_dict()).mT
        torch.testing.assert_close(local[row, :length], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(pooled[row], expected.amax(0), atol=1e-5, rtol=1e-5)
    assert not local[~valid].any()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_padding_changes_nothing_in_training_either(layout, captions):
    """Output, gradients and running statistics, whatever stands at padding and how much of it."""
    token_ids, valid = captions
    noise = torch.where(valid, token_ids, torch.tensor(29))
    batches = [(token_ids[:, :7], valid[:, :7]), (F.pad(noise, (0, 4)), F.pad(valid, (0, 4)))]
    found = []
    for ids, mask in batches:
        encoder = small(layout).double().train()
        pooled = encoder(ids, mask).pooled
        pooled.square().sum().backward()
        gradients = [weight.grad for weight in encoder.layers.parameters()]
        found.append([pooled, *gradients, *encoder.layers.buffers()])
    for short, long in zip(*found, strict=True):
        torch.testing.assert_close(short, long, atol=1e-12, rtol=1e-9)


def test_masked_batch_norm_is_a_batch_norm_of_the_words_in_a_row():
    torch.manual_seed(0)
    features = torch.randn(3, 5, 6, dtype=torch.float64, requires_grad=True)
    valid = torch.arange(6) < torch.tensor([6, 2, 4])[:, None]
    ours, theirs = MaskedBatchNorm(5).double(), nn.BatchNorm1d(5).double()
    for norm in (ours, theirs):
        nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(1))
        nn.init.normal_(norm.bias, generator=torch.Generator().manual_seed(2))
    upstream = torch.randn(12, 5, dtype=torch.float64)
    for _ in range(2):
        found = ours(features, valid[:, None]).mT[valid]
        expected = theirs(features.mT[valid])
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(
            torch.autograd.grad(found, features, upstream)[0],
            torch.autograd.grad(expected, features, upstream)[0],
        )
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    torch.testing.assert_close(
        ours.eval()(features, valid[:, None]).mT[valid], theirs.eval()(features.mT[valid])
    )


def test_batch_norm_survives_a_single_word_and_half_precision():
    norm = MaskedBatchNorm(4)
    features = torch.randn(1, 4, 3).bfloat16()
    valid = torch.tensor([[[True, False, False]]])
    out = norm(features, valid)
    assert out.dtype == torch.bfloat16
    # One value is its own mean: what is left, but for rounding over epsilon, is the bias, zero.
    assert out[..., 0].abs().max() < 1e-4
    assert norm.running_var.isfinite().all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_words_computed_beforehand_replace_the_embedding(layout, captions):
    encoder = small(layout).eval()
    words = encoder.embedding(*captions).local
    expected = encoder(*captions)
    encoder.embedding = None
    for found, value in zip(encoder(*captions, words), expected, strict=True):
        assert torch.equal(found, value)


def test_dropout_acts_in_training_only(captions):
    encoder = small("kim", dropout=0.5)
    assert not torch.equal(encoder(*captions).local, encoder(*captions).local)
    encoder.eval()
    assert torch.equal(encoder(*captions).local, encoder(*captions).local)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_frozen_inner_encoder_stays_frozen(layout, captions):
    bert = BertEncoder(frozen=True, vocab_size=30, dim=8, depth=1, heads=2, max_positions=9)
    encoder = TextCnnEncoder(bert, layout, out_dim=8, stem_dim=6, bottleneck_dim=4).train()
    encoder(*captions).local.sum().backward()
    assert all(weight.grad is None for weight in bert.parameters())
    assert all(weight.grad is not None for weight in encoder.layers.parameters())
    assert not bert.bert.training


def test_published_sizes():
    """Weights of the published widths, counted from the layouts; a norm has two per channel."""
    with torch.device("meta"):
        tipcb = TextCnnEncoder(WordEmbedding(1, 768))
        kim = TextCnnEncoder(WordEmbedding(1, 768), layout="kim")

    def conv(dim, out_dim, size=1):
        return dim * out_dim * size + 2 * out_dim

    block = conv(512, 512, 3) + conv(512, 2048)
    first = conv(1024, 512) + block + conv(1024, 2048)
    expected = conv(768, 1024) + first + 2 * (conv(2048, 512) + block)
    assert sum(weight.numel() for weight in tipcb.layers.parameters()) == expected
    expected = 768 * 512 * (2 + 3 + 4 + 5) + 4 * 512
    assert sum(weight.numel() for weight in kim.layers.parameters()) == expected
    assert tipcb.out_dim == kim.out_dim == 2048


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match="layout: expected 'tipcb' or 'kim', got 'vgg'"):
        TextCnnEncoder(WordEmbedding(9, 4), layout="vgg")
    with pytest.raises(ValueError, match=r"multiple of the 3 kernel_sizes \[2, 3, 4\], got 10"):
        TextCnnEncoder(WordEmbedding(9, 4), "kim", out_dim=10, kernel_sizes=(2, 3, 4))
