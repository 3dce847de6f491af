import math

import numpy as np
import pytest
import torch

from tireid.losses.projection import CmpmLoss, SdmLoss, cmpc_loss, cmpm_loss, sdm_loss


def features(batch: int = 6, dim: int = 5, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(batch, dim, generator=generator, dtype=dtype)
    text = torch.randn(batch, dim, generator=generator, dtype=dtype)
    return image, text, torch.tensor([4, 9, 4, 2, 9, 4])[:batch]


def reference(image, text, pids, *, temperature=None, epsilon=1e-8, target="sum"):
    """Equations of CMPM (no temperature) and SDM, one row and one column at a time."""
    total = 0.0
    for rows, columns in ((image, text), (text, image)):
        for i in range(len(pids)):
            logits = []
            for j in range(len(pids)):
                projection = rows[i] @ columns[j] / math.sqrt(columns[j] @ columns[j])
                if temperature is not None:
                    projection /= math.sqrt(rows[i] @ rows[i]) * temperature
                logits.append(projection)
            p = np.exp(np.array(logits) - max(logits))
            p /= p.sum()
            matches = sum(int(pid == pids[i]) for pid in pids)
            share = 1 / matches if target == "sum" else 1 / math.sqrt(matches)
            for j in range(len(pids)):
                q = share if pids[j] == pids[i] else 0.0
                total += p[j] * (math.log(p[j]) - math.log(q + epsilon)) / len(pids)
    return total


@pytest.mark.parametrize("target", ["sum", "l2"])
@pytest.mark.parametrize("epsilon", [1e-8, 1e-3])
def test_cmpm_equals_its_equation(target, epsilon):
    image, text, pids = features()
    expected = reference(image.numpy(), text.numpy(), pids.tolist(), epsilon=epsilon, target=target)
    loss = cmpm_loss(image, text, pids, epsilon=epsilon, target=target)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_cmpc_equals_its_equation():
    image, text, _ = features()
    generator = torch.Generator().manual_seed(8)
    weights = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 3, 0, 2, 3, 0])
    expected = 0.0
    for rows, columns in ((image, text), (text, image)):
        for i, label in enumerate(labels.tolist()):
            direction = columns[i] / math.sqrt(columns[i] @ columns[i])
            along = (rows[i] @ direction) * direction
            scores = [float(along @ w / math.sqrt(w @ w)) for w in weights]
            total = sum(math.exp(score) for score in scores)
            expected += (math.log(total) - scores[label]) / len(labels)
    assert cmpc_loss(image, text, labels, weights).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("temperature", [0.02, 0.5])
def test_sdm_equals_its_equation(temperature):
    image, text, pids = features()
    expected = reference(image.numpy(), text.numpy(), pids.tolist(), temperature=temperature)
    loss = sdm_loss(image, text, pids, temperature=temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", [cmpm_loss, sdm_loss])
def test_uniform_similarities_among_strangers(loss):
    # p = 1/N everywhere, q = 1 at one place and 0 at N - 1: the divergence has a closed form.
    n, epsilon = 7, 1e-8
    same = torch.zeros(n, 4, dtype=torch.float64)
    expected = 2 * (-math.log(n) - (n - 1) / n * math.log(epsilon))
    value = loss(same, same, torch.arange(n), epsilon=epsilon)
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_cmpm_l2_target_exceeds_one_and_goes_negative():
    # Four pairs of one person, uniform p = 1/4: q = 1/sqrt(4), so each direction is log(1/4 * 2).
    same, pids = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)
    assert cmpm_loss(same, same, pids, target="sum").item() == pytest.approx(0.0, abs=1e-6)
    expected = 2 * math.log(1 / 2)
    assert cmpm_loss(same, same, pids, target="l2").item() == pytest.approx(expected, rel=1e-6)


def test_well_separated_pairs_reach_zero():
    image = torch.eye(5) * 50
    assert cmpm_loss(image, image, torch.arange(5)).item() == pytest.approx(0.0, abs=1e-5)
    assert sdm_loss(image, image, torch.arange(5)).item() == pytest.approx(0.0, abs=1e-5)


def test_sdm_ignores_lengths_and_cmpm_does_not():
    image, text, pids = features()
    torch.testing.assert_close(sdm_loss(3 * image, 0.2 * text, pids), sdm_loss(image, text, pids))
    assert abs(cmpm_loss(3 * image, text, pids) - cmpm_loss(image, text, pids)) > 0.1


@pytest.mark.parametrize("loss", [cmpm_loss, sdm_loss])
def test_modalities_and_order_do_not_matter(loss):
    image, text, pids = features()
    expected = loss(image, text, pids)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(loss(text, image, pids), expected)
    torch.testing.assert_close(loss(image[order], text[order], pids[order]), expected)


@pytest.mark.parametrize("target", ["sum", "l2"])
def test_cmpm_gradient(target):
    image, text, pids = features(4)
    inputs = (image.requires_grad_(), text.requires_grad_())
    assert torch.autograd.gradcheck(lambda v, t: cmpm_loss(v, t, pids, target=target), inputs)


def test_sdm_gradient():
    image, text, pids = features(4)
    inputs = (image.requires_grad_(), text.requires_grad_())
    # A mild temperature: at 0.02 the finite difference, not the gradient, is what is wrong.
    assert torch.autograd.gradcheck(lambda v, t: sdm_loss(v, t, pids, temperature=0.5), inputs)


@pytest.mark.parametrize("loss", [cmpm_loss, sdm_loss])
def test_autocast_changes_nothing(loss):
    image, text, pids = features(dtype=torch.float32)
    image.requires_grad_()
    expected = torch.autograd.grad(loss(image, text, pids), image)[0]
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(image, text, pids)
    assert value.dtype == torch.float32
    assert value == loss(image, text, pids)
    torch.testing.assert_close(torch.autograd.grad(value, image)[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize("loss", [cmpm_loss, sdm_loss])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_features_are_computed_in_float32(loss, dtype):
    image, text, pids = features(dtype=dtype)
    value = loss(image, text, pids)
    torch.testing.assert_close(value, loss(image.float(), text.float(), pids), rtol=0, atol=0)


@pytest.mark.parametrize("loss", [cmpm_loss, sdm_loss])
def test_zero_features_have_a_finite_gradient(loss):
    image, text = torch.zeros(3, 4, requires_grad=True), torch.randn(3, 4)
    loss(image, text, torch.arange(3)).backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()


def test_classes_hold_the_constants():
    image, text, pids = features()
    expected = cmpm_loss(image, text, pids, epsilon=1e-3, target="l2")
    assert CmpmLoss(epsilon=1e-3, target="l2")(image, text, pids) == expected
    expected = sdm_loss(image, text, pids, temperature=0.1, epsilon=1e-3)
    assert SdmLoss(temperature=0.1, epsilon=1e-3)(image, text, pids) == expected
    assert not list(CmpmLoss().parameters()) + list(SdmLoss().parameters())


@pytest.mark.usefixtures("unchecked")
def test_errors_name_what_is_wrong():
    image, text, pids = features()
    with pytest.raises(ValueError, match=r"one shape.*\(6, 5\) and \(5, 5\)"):
        cmpm_loss(image, text[:5], pids)
    with pytest.raises(ValueError, match="expected 6 pids, one per pair, got 4"):
        sdm_loss(image, text, pids[:4])
    with pytest.raises(ValueError, match="temperature above 0, got 0"):
        sdm_loss(image, text, pids, temperature=0.0)
    with pytest.raises(ValueError, match='"sum" or "l2", got "max"'):
        cmpm_loss(image, text, pids, target="max")  # type: ignore[arg-type]
