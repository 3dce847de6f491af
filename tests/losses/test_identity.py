import math

import pytest
import torch

from tireid.losses.identity import identity_loss


def test_equals_its_equation():
    logits = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([3, 0, 0, 2, 1])
    expected = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        expected -= (row[label] - math.log(sum(map(math.exp, row)))) / 5
    assert identity_loss(logits, labels).item() == pytest.approx(expected, rel=1e-12)


def test_smoothing_spreads_a_share_of_the_target_over_all_classes():
    logits = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    labels = torch.tensor([3, 0, 0, 2, 1])
    target = torch.full((5, 4), 0.3 / 4, dtype=torch.float64)
    target[torch.arange(5), labels] += 0.7
    expected = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(identity_loss(logits, labels, smoothing=0.3), expected)
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"label_smoothing: expected a share in \[0, 1\)"):
            identity_loss(logits, labels, smoothing=share)


def test_uniform_logits_give_log_of_the_classes():
    loss = identity_loss(torch.full((3, 11003), 2.5), torch.tensor([0, 5, 11002]))
    assert loss.item() == pytest.approx(math.log(11003), rel=1e-6)


def test_a_constant_added_to_a_row_does_not_matter():
    logits = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels, shift = torch.tensor([1, 3, 0]), torch.tensor([[5.0], [-70.0], [300.0]])
    torch.testing.assert_close(identity_loss(logits + shift, labels), identity_loss(logits, labels))


def test_gradient():
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: identity_loss(x, torch.tensor([1, 3, 0])), (logits,))


def test_half_logits_are_computed_in_float32():
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(2)).bfloat16()
    labels = torch.tensor([1, 3, 0], dtype=torch.int32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = identity_loss(logits, labels)
    assert loss.dtype == torch.float32
    assert loss == identity_loss(logits.float(), labels)


@pytest.mark.usefixtures("unchecked")
def test_sizes_must_fit():
    with pytest.raises(ValueError, match="got 3 labels, 2 rows"):
        identity_loss(torch.zeros(2, 4), torch.tensor([0, 1, 2]))
