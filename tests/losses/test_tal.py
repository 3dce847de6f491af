import math

import numpy as np
import pytest
import torch

from tireid.losses.tal import TalLoss, triplet_alignment


def features(batch: int = 6, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(batch, 5, generator=generator, dtype=dtype)
    text = torch.randn(batch, 5, generator=generator, dtype=dtype)
    return image, text, torch.tensor([4, 9, 4, 2, 9, 4])[:batch]


def reference(image, text, pids, margin=0.1, tau=0.015):
    """The definition, one anchor at a time, in plain numbers."""

    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(
            sum(x * x for x in a) * sum(y * y for y in b)
        )

    values = []
    for i, pid in enumerate(pids):
        value = 0.0
        for rows, columns in ((text, image), (image, text)):
            scores = [cosine(rows[i], column) for column in columns]
            total = sum(math.exp(s / tau) for s, p in zip(scores, pids, strict=True) if p == pid)
            positive = sum(
                math.exp(s / tau) / total * s for s, p in zip(scores, pids, strict=True) if p == pid
            )
            others = [s for s, p in zip(scores, pids, strict=True) if p != pid]
            hardest = tau * math.log(min(1e36, sum(math.exp(s / tau) for s in others)))
            value += max(0.0, margin - positive + hardest)
        values.append(value)
    return values


@pytest.mark.parametrize(("margin", "tau"), [(0.1, 0.015), (0.3, 0.1), (0.0, 0.015)])
def test_each_pair_equals_the_definition(margin, tau):
    image, text, pids = features()
    expected = reference(image.tolist(), text.tolist(), pids.tolist(), margin, tau)
    found = triplet_alignment(image, text, pids, margin=margin, temperature=tau)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_weights_of_the_positives_get_no_gradient():
    """In double precision, against finite differences with the weights held."""
    image, text, pids = features(4)
    text.requires_grad_()
    held = (
        torch.nn.functional.normalize(text.detach(), dim=-1)
        @ torch.nn.functional.normalize(image, dim=-1).T
    ) / 0.1
    positive = pids[:, None] == pids

    def with_held_weights(moved):
        rows = torch.nn.functional.normalize(moved, dim=-1)
        cosines = rows @ torch.nn.functional.normalize(image, dim=-1).T
        total = 0.0
        for s, logits in ((cosines, held), (cosines.T, held.T)):
            weights = logits.masked_fill(~positive, -math.inf).softmax(1)
            hardest = 0.1 * (s / 0.1).masked_fill(positive, -math.inf).logsumexp(1)
            total = total + (5.0 - (weights * s).sum(1) + hardest).relu().sum()
        return total

    expected = torch.autograd.functional.jacobian(with_held_weights, text.detach())
    loss = triplet_alignment(image, text, pids, margin=5.0, temperature=0.1).sum()
    (found,) = torch.autograd.grad(loss, text)
    torch.testing.assert_close(found, expected)


def test_an_anchor_without_negatives_has_no_loss_and_no_gradient():
    image, text, _ = features()
    image.requires_grad_()
    losses = triplet_alignment(image, text, torch.full((6,), 3))
    (gradient,) = torch.autograd.grad(losses.sum(), image)
    assert losses.sum() == 0
    assert torch.equal(gradient, torch.zeros_like(image))


def test_a_pair_that_is_not_kept_stays_a_negative_of_the_others():
    image, text, pids = features()
    kept = torch.tensor([True, False, True, True, False, True])
    losses = triplet_alignment(image, text, pids)
    assert TalLoss()(image, text, pids, kept) == losses[kept].sum()
    assert TalLoss(reduction="mean")(image, text, pids) == losses.mean()


def test_half_precision_is_computed_in_single_and_stays_finite():
    image, text, pids = features(dtype=torch.float16)
    with torch.autocast("cpu", torch.bfloat16):
        found = triplet_alignment(image, text, pids)
    assert found.dtype == torch.float32
    assert torch.equal(found, triplet_alignment(image.float(), text.float(), pids))
    same = torch.ones(6, 5, dtype=torch.float16)
    assert triplet_alignment(same, same, pids).isfinite().all()


@pytest.mark.usefixtures("unchecked")
def test_wrong_constants_are_named():
    with pytest.raises(ValueError, match="temperature: expected a number above 0, got 0"):
        triplet_alignment(*features(), temperature=0.0)
    with pytest.raises(ValueError, match="reduction: expected sum or mean, got 'max'"):
        TalLoss(reduction="max")
