import math

import pytest
import torch

from tireid.losses.contrastive import InfoNceLoss, info_nce_loss


def features(batch: int = 6, dim: int = 5, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(5)
    image = torch.randn(batch, dim, generator=generator, dtype=dtype)
    text = torch.randn(batch, dim, generator=generator, dtype=dtype)
    return image, text, torch.tensor([4, 9, 4, 2, 9, 4])[:batch]


def reference(image, text, logit_scale, pids=None):
    """Each row's mean of -log softmax over its positives, in plain Python."""
    n, total = len(image), 0.0
    for rows, columns in ((image, text), (text, image)):
        for i in range(n):
            cosine = [
                sum(a * b for a, b in zip(rows[i], columns[j], strict=True))
                / math.hypot(*rows[i])
                / math.hypot(*columns[j])
                for j in range(n)
            ]
            normaliser = math.log(sum(math.exp(logit_scale * c) for c in cosine))
            positives = [i] if pids is None else [j for j in range(n) if pids[j] == pids[i]]
            total -= sum(logit_scale * cosine[j] - normaliser for j in positives) / len(positives)
    return total / (2 * n)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("logit_scale", [1.0, 1 / 0.07])
def test_equals_its_equation(shared, logit_scale):
    image, text, pids = features()
    expected = reference(
        image.tolist(), text.tolist(), logit_scale, pids.tolist() if shared else None
    )
    loss = info_nce_loss(image, text, pids if shared else None, logit_scale=logit_scale)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("pids", [None, torch.tensor([1, 1, 2, 3, 3, 3, 4])])
def test_uniform_similarities_give_log_n(pids):
    same = torch.ones(7, 4, dtype=torch.float64)
    assert info_nce_loss(same, same, pids).item() == pytest.approx(math.log(7), rel=1e-12)


def test_distinct_identities_make_both_targets_equal():
    image, text, _ = features()
    expected = info_nce_loss(image, text)
    torch.testing.assert_close(info_nce_loss(image, text, torch.arange(6) * 10), expected)


def test_shared_identities_stop_pushing_their_pairs_apart():
    # Two pairs of one person, all alike, and a stranger far away: half of the mass is the best
    # that either target allows, but only the pair target would gain by telling the two apart.
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    apart = torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.0]], dtype=torch.float64)
    pids = torch.tensor([1, 1, 2])
    assert info_nce_loss(apart, apart) < info_nce_loss(features, features)
    assert info_nce_loss(apart, apart, pids) > info_nce_loss(features, features, pids)


def test_lengths_modalities_and_order_do_not_matter():
    image, text, pids = features()
    expected = info_nce_loss(image, text, pids)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(info_nce_loss(7 * image, 0.1 * text, pids), expected)
    torch.testing.assert_close(info_nce_loss(text, image, pids), expected)
    torch.testing.assert_close(info_nce_loss(image[order], text[order], pids[order]), expected)


@pytest.mark.parametrize("shared", [False, True])
def test_gradient_of_features_and_scale(shared):
    image, text, pids = features(4)
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    targets = pids if shared else None
    assert torch.autograd.gradcheck(
        lambda v, t, s: info_nce_loss(v, t, targets, logit_scale=s),
        (image.requires_grad_(), text.requires_grad_(), scale),
    )


def test_autocast_changes_nothing():
    image, text, pids = features(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        value = info_nce_loss(image, text, pids)
    assert value.dtype == torch.float32
    assert value == info_nce_loss(image, text, pids)


def test_bfloat16_features_are_computed_in_float32():
    image, text, pids = features(dtype=torch.bfloat16)
    expected = info_nce_loss(image.float(), text.float(), pids)
    torch.testing.assert_close(info_nce_loss(image, text, pids), expected, rtol=0, atol=0)


def test_class_holds_the_constants_and_takes_a_trained_scale():
    image, text, pids = features()
    loss = InfoNceLoss(logit_scale=3.0)
    assert loss(image, text, pids) == info_nce_loss(image, text, logit_scale=3.0)
    shared = InfoNceLoss(logit_scale=3.0, share_identity=True)
    assert shared(image, text, pids) == info_nce_loss(image, text, pids, logit_scale=3.0)
    trained = torch.tensor(5.0, dtype=torch.float64)
    assert loss(image, text, pids, trained) == info_nce_loss(image, text, logit_scale=5.0)


@pytest.mark.usefixtures("unchecked")
def test_errors_name_what_is_wrong():
    image, text, pids = features()
    with pytest.raises(ValueError, match=r"\(6, 5\) and \(6, 4\)"):
        info_nce_loss(image, text[:, :4])
    with pytest.raises(ValueError, match="expected 6 pids, one per pair, got 5"):
        info_nce_loss(image, text, pids[:5])
