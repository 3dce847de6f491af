"""The fusion against loops and PyTorch's own attention, and what the maths promises."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tireid.methods.lcr2s.fusion import KINDS, SupportFusion

DIM, HEADS, SLOTS = 12, 3, 4
FILLED = torch.tensor(
    [[True, True, True, True], [False, True, False, True], [False] * 4, [True, False, False, False]]
)
VARIANTS = [
    *({"kind": kind} for kind in KINDS),
    {"kind": "anchor_query", "residual": False, "norm": "post"},
    {"kind": "anchor_query", "norm": "pre", "ffn": True, "parts": 2},
    {"kind": "self_attention", "norm": "pre", "ffn": True},
    {"kind": "self_attention", "norm": "post", "ffn": True, "readout": "mean"},
    {"kind": "self_attentive", "residual": False, "parts": 2},
    {"kind": "mean", "parts": 3},
]


def fusion(**settings) -> SupportFusion:
    torch.manual_seed(0)
    module = SupportFusion(DIM, heads=HEADS, **settings)
    for name, weight in module.named_parameters():  # LayerNorms and biases too
        if "norm" in name or weight.dim() == 1:
            nn.init.normal_(weight)
    return module.double()


@pytest.fixture
def given():
    generator = torch.Generator().manual_seed(1)
    anchor = torch.randn(4, DIM, generator=generator, dtype=torch.float64)
    support = torch.randn(4, SLOTS, DIM, generator=generator, dtype=torch.float64)
    return anchor, support, FILLED


def members_of(given):
    """One array per anchor: itself and its filled slots."""
    for anchor, support, valid in zip(*given, strict=True):
        yield torch.stack([anchor, *support[valid]]).numpy()


def softmax(scores):
    weights = np.exp(scores - max(scores))
    return weights / weights.sum()


@pytest.mark.parametrize("residual", [True, False])
def test_anchor_query_equals_its_equations(given, residual):
    module = fusion(residual=residual)
    w = {name: weight.detach().numpy() for name, weight in module.mixer.named_parameters()}
    size = DIM // HEADS
    found = module(*given).detach().numpy()
    attention = module.attention(*given).detach().numpy()
    for row, members in enumerate(members_of(given)):
        outputs = []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            query = w["to_query.weight"][part] @ members[0]
            keys = [w["to_key.weight"][part] @ x for x in members]
            values = [w["to_value.weight"][part] @ x for x in members]
            weights = softmax([query @ key / math.sqrt(size) for key in keys])
            outputs.append(sum(a * value for a, value in zip(weights, values, strict=True)))
            filled = np.concatenate([[True], FILLED[row].numpy()])
            np.testing.assert_allclose(attention[row, head][filled], weights, rtol=1e-10)
        expected = w["to_out.weight"] @ np.concatenate(outputs) + residual * members[0]
        np.testing.assert_allclose(found[row], expected, rtol=1e-10)


@pytest.mark.parametrize("norm", ["none", "pre", "post"])
@pytest.mark.parametrize("readout", ["anchor", "mean"])
def test_self_attention_equals_pytorchs(given, norm, readout):
    """A Transformer layer without biases in its attention, over the filled members alone."""
    module = fusion(kind="self_attention", norm=norm, ffn=True, readout=readout)
    mixer = module.mixer
    theirs = nn.MultiheadAttention(DIM, HEADS, bias=False, batch_first=True).double()
    weights = [mixer.to_query.weight, mixer.to_key.weight, mixer.to_value.weight]
    theirs.load_state_dict(
        {"in_proj_weight": torch.cat(weights), "out_proj.weight": mixer.to_out.weight}
    )
    found, attention = module(*given), module.attention(*given)
    for row, members in enumerate(members_of(given)):
        x = torch.from_numpy(members)[None]
        normed = mixer.norm_before(x) if norm == "pre" else x
        attended, expected_attention = theirs(normed, normed, normed, average_attn_weights=False)
        x = mixer.norm_after(x + attended) if norm == "post" else x + attended
        x = x + mixer.ffn(x)
        x = (mixer.norm_end(x) if norm == "post" else x)[0]
        expected = x[0] if readout == "anchor" else x.mean(0)
        torch.testing.assert_close(found[row], expected)
        expected_attention = expected_attention[0]
        paid = expected_attention[:, 0] if readout == "anchor" else expected_attention.mean(1)
        filled = F.pad(FILLED[row], (1, 0), value=True)
        torch.testing.assert_close(attention[row][:, filled], paid)


@pytest.mark.parametrize("residual", [True, False])
def test_self_attentive_equals_its_equations(given, residual):
    module = fusion(kind="self_attentive", residual=residual)
    first, second = (weight.detach().numpy() for weight in module.mixer.parameters())
    for row, members in enumerate(members_of(given)):
        scores = np.array([second @ np.tanh(first @ x) for x in members])  # (members, heads)
        pooled = [softmax(scores[:, head]) @ members for head in range(HEADS)]
        expected = sum(pooled) / HEADS + residual * members[0]
        np.testing.assert_allclose(module(*given)[row].detach(), expected, rtol=1e-10)


def test_mean_is_the_mean(given):
    found = fusion(kind="mean")(*given)
    for row, members in enumerate(members_of(given)):
        np.testing.assert_allclose(found[row], members.mean(0), rtol=1e-12)
    assert not list(fusion(kind="mean").parameters())


@pytest.mark.parametrize("settings", VARIANTS)
def test_empty_slots_get_exactly_no_attention(given, settings):
    anchor, support, valid = given
    module = fusion(**settings)
    weights = module.attention(*given)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    assert (weights >= 0).all()
    assert (weights[..., 1:].mT[~valid] == 0).all()
    assert (weights[2, :, 0] == 1).all()  # without support the anchor attends to itself
    rubbish = support.masked_fill(~valid[..., None], float("nan"))
    assert torch.equal(module(anchor, rubbish, valid), module(*given))
    half = module.to(torch.bfloat16).attention(anchor.bfloat16(), rubbish.bfloat16(), valid)
    assert (half[..., 1:].mT[~valid] == 0).all()
    assert (half[2, :, 0] == 1).all()


@pytest.mark.parametrize("settings", VARIANTS)
def test_the_order_of_the_support_changes_nothing(given, settings):
    anchor, support, valid = given
    module = fusion(**settings)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        module(anchor, support[:, order], valid[:, order]), module(*given), rtol=1e-12, atol=1e-12
    )
    assert not torch.allclose(module(support[:, 0], support, valid), module(*given))


@pytest.mark.parametrize("settings", VARIANTS)
def test_no_slots_no_filled_slots_and_fewer_slots_agree(given, settings):
    anchor, support, valid = given
    module = fusion(**settings)
    none = module(anchor, support[:, :0], valid[:, :0])
    torch.testing.assert_close(module(anchor, support, torch.zeros_like(valid)), none)
    torch.testing.assert_close(module(*given)[2], none[2])
    torch.testing.assert_close(
        module(anchor[3:], support[3:, :1], valid[3:, :1]), module(*given)[3:]
    )


@pytest.mark.parametrize("slots", [SLOTS, 0])
@pytest.mark.parametrize("settings", VARIANTS)
def test_gradients_are_finite_and_stay_out_of_empty_slots(given, settings, slots):
    anchor, support, valid = given
    support = support.masked_fill(~valid[..., None], float("inf"))
    anchor.requires_grad_(), support.requires_grad_()
    module = fusion(**settings)
    module(anchor, support[:, :slots], valid[:, :slots]).square().sum().backward()
    for tensor in (anchor, support, *module.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
    assert not support.grad[~valid].any()
    assert anchor.grad.any(dim=1).all()
    if slots:
        assert support.grad[valid].any(dim=1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_fused_one_by_one_with_the_same_weights(given, kind):
    anchor, support, valid = given
    torch.manual_seed(0)
    whole = SupportFusion(DIM, kind=kind, heads=HEADS, parts=2).double()
    single = SupportFusion(DIM // 2, kind=kind, heads=HEADS).double()
    single.load_state_dict(whole.state_dict())
    halves = [slice(0, DIM // 2), slice(DIM // 2, DIM)]
    expected = [single(anchor[:, h], support[..., h], valid) for h in halves]
    torch.testing.assert_close(whole(*given), torch.cat(expected, dim=1))
    expected = [single.attention(anchor[:, h], support[..., h], valid) for h in halves]
    torch.testing.assert_close(whole.attention(*given), torch.cat(expected, dim=1))


def test_published_width_has_the_weights_of_four_maps():
    with torch.device("meta"):
        module = SupportFusion(2048)
    assert sum(weight.numel() for weight in module.parameters()) == 4 * 2048**2


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match=r"kind: expected one of anchor_query, .*, got 'max'"):
        SupportFusion(8, kind="max")
    with pytest.raises(ValueError, match="norm: expected one of none, pre, post, got 'batch'"):
        SupportFusion(8, norm="batch")
    with pytest.raises(ValueError, match="expected none and false with kind 'mean'"):
        SupportFusion(8, kind="mean", ffn=True)
    with pytest.raises(ValueError, match="readout: expected 'anchor' with kind 'anchor_query'"):
        SupportFusion(8, readout="mean")
    for heads in (0, -2):
        with pytest.raises(ValueError, match=f"heads: expected an integer > 0, got {heads}"):
            SupportFusion(8, heads=heads)
    with pytest.raises(ValueError, match="parts: expected a divisor of the width 8, got 0"):
        SupportFusion(8, parts=0)
    with pytest.raises(ValueError, match="heads: expected a divisor of the width 8, got 3"):
        SupportFusion(8, heads=3)
    with pytest.raises(ValueError, match="parts: expected a divisor of the width 8, got 3"):
        SupportFusion(8, parts=3)
