"""Distillation losses against loops written from their definitions."""

import math

import numpy as np
import pytest
import torch
import torch.distributed as dist

from tireid.losses.distillation import (
    FeatureDistillationLoss,
    RelationDistillationLoss,
    feature_distillation_loss,
    relation_distillation_loss,
)

FEATURE = [(n, r) for n in (False, True) for r in ("mean", "sum_over_dim")]
RELATION = [(s, r) for s in ("cosine", "dot") for r in ("fro_sq_over_batch", "fro", "fro_sq_mean")]


def features(batch: int = 5, dim: int = 4, teacher_dim: int = 4, dtype=torch.float64):
    """Return images and texts of a student, then of a teacher."""
    generator = torch.Generator().manual_seed(3)
    widths = (dim, dim, teacher_dim, teacher_dim)
    return [torch.randn(batch, width, generator=generator, dtype=dtype) for width in widths]


def unit(vector):
    return vector / math.sqrt(vector @ vector)


def feature_reference(student, teacher, normalize, reduction):
    total = 0.0
    for mine, target in zip(student, teacher, strict=True):
        if normalize:
            mine, target = unit(mine), unit(target)
        total += sum((a - b) ** 2 for a, b in zip(mine, target, strict=True))
    return total / len(student) / (student.shape[1] if reduction == "mean" else 1)


def relation_reference(images, texts, target_images, target_texts, similarity, reduction):
    """One entry of the matrices at a time."""

    def relation(image, text):
        return unit(image) @ unit(text) if similarity == "cosine" else image @ text

    batch, total = len(images), 0.0
    for i in range(batch):
        for j in range(batch):
            mine, target = (
                relation(images[i], texts[j]),
                relation(target_images[i], target_texts[j]),
            )
            total += (mine - target) ** 2
    return {
        "fro_sq_over_batch": total / batch,
        "fro": math.sqrt(total),
        "fro_sq_mean": total / batch**2,
    }[reduction]


@pytest.mark.parametrize(("normalize", "reduction"), FEATURE)
def test_feature_loss_equals_its_definition(normalize, reduction):
    student, _, teacher, _ = features()
    expected = feature_reference(student.numpy(), teacher.numpy(), normalize, reduction)
    for loss in (
        feature_distillation_loss(student, teacher, normalize=normalize, reduction=reduction),
        FeatureDistillationLoss(normalize=normalize, reduction=reduction)(student, teacher),
    ):
        assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("similarity", "reduction"), RELATION)
def test_relation_loss_equals_its_definition(similarity, reduction):
    given = features(teacher_dim=7)
    expected = relation_reference(*(f.numpy() for f in given), similarity, reduction)
    for loss in (
        relation_distillation_loss(*given, similarity=similarity, reduction=reduction),
        RelationDistillationLoss(similarity=similarity, reduction=reduction)(*given),
    ):
        assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("normalize", "reduction"), FEATURE)
def test_feature_loss_is_zero_at_equality(normalize, reduction):
    student = features(dtype=torch.float32)[0].requires_grad_()
    loss = feature_distillation_loss(
        student, student.detach().clone(), normalize=normalize, reduction=reduction
    )
    assert loss == 0
    assert not torch.autograd.grad(loss, student)[0].any()


@pytest.mark.parametrize(("similarity", "reduction"), RELATION)
def test_relation_loss_is_zero_at_equality_with_a_finite_gradient(similarity, reduction):
    images, texts, *_ = (f.requires_grad_() for f in features(dtype=torch.float32))
    loss = relation_distillation_loss(
        images, texts, images.clone(), texts.clone(), similarity=similarity, reduction=reduction
    )
    assert loss == 0
    for gradient in torch.autograd.grad(loss, (images, texts)):
        assert not gradient.any()  # zero, so not NaN either


@pytest.mark.parametrize("name", ["feature", "relation"])
def test_the_teacher_gets_no_gradient(name):
    given = [f.requires_grad_() for f in features()]
    if name == "feature":
        loss = feature_distillation_loss(given[0], given[2])
    else:
        loss = relation_distillation_loss(*given)
    loss.backward()
    assert given[0].grad is not None
    assert given[2].grad is None
    assert given[3].grad is None


def test_what_normalising_makes_irrelevant():
    images, texts, target_images, target_texts = features()
    scaled = (3 * images, 0.2 * texts, 7 * target_images, 0.5 * target_texts)
    torch.testing.assert_close(
        feature_distillation_loss(scaled[0], scaled[2], normalize=True),
        feature_distillation_loss(images, target_images, normalize=True),
    )
    torch.testing.assert_close(
        relation_distillation_loss(*scaled),
        relation_distillation_loss(images, texts, target_images, target_texts),
    )
    # A rotation of the student's space changes its features, but none of its relations.
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    for similarity in ("cosine", "dot"):
        torch.testing.assert_close(
            relation_distillation_loss(
                images @ turn, texts @ turn, images, texts, similarity=similarity
            ),
            torch.zeros((), dtype=torch.float64),
            atol=1e-12,
            rtol=0,
        )
    assert feature_distillation_loss(images @ turn, images) > 0.1


@pytest.mark.parametrize(("normalize", "reduction"), FEATURE)
def test_feature_gradient(normalize, reduction):
    student, _, teacher, _ = features(3)
    assert torch.autograd.gradcheck(
        lambda s: feature_distillation_loss(s, teacher, normalize=normalize, reduction=reduction),
        student.requires_grad_(),
    )


@pytest.mark.parametrize(("similarity", "reduction"), RELATION)
def test_relation_gradient(similarity, reduction):
    images, texts, *teacher = features(3)
    assert torch.autograd.gradcheck(
        lambda v, t: relation_distillation_loss(
            v, t, *teacher, similarity=similarity, reduction=reduction
        ),
        (images.requires_grad_(), texts.requires_grad_()),
    )


@pytest.mark.parametrize("name", ["feature", "relation"])
def test_autocast_and_half_features_are_computed_in_float32(name):
    def loss(given):
        if name == "feature":
            return feature_distillation_loss(given[0], given[2], normalize=True)
        return relation_distillation_loss(*given)

    given = [f.requires_grad_() for f in features(dtype=torch.float32)]
    expected = torch.autograd.grad(loss(given), given[0])[0]
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(given)
    assert value.dtype == torch.float32
    assert value == loss(given)
    torch.testing.assert_close(torch.autograd.grad(value, given[0])[0], expected, rtol=0, atol=0)
    for dtype in (torch.bfloat16, torch.float16):
        half = [f.detach().to(dtype) for f in given]
        assert loss(half) == loss([f.float() for f in half])


@pytest.mark.parametrize("reduction", ["fro_sq_over_batch", "fro", "fro_sq_mean"])
def test_zero_features_have_a_finite_gradient(reduction):
    zero = torch.zeros(3, 4, requires_grad=True)
    _, texts, *teacher = features(3, dtype=torch.float32)
    relation_distillation_loss(zero, texts, *teacher, reduction=reduction).backward()
    feature_distillation_loss(zero, teacher[0], normalize=True).backward()
    assert zero.grad is not None
    assert zero.grad.isfinite().all()


@pytest.mark.usefixtures("unchecked")
def test_errors_name_what_is_wrong():
    images, texts, *teacher = features()
    with pytest.raises(ValueError, match=r"one shape, got \(5, 4\) and \(5, 3\)"):
        feature_distillation_loss(images, images[:, :3])
    with pytest.raises(ValueError, match="reduction: expected one of mean, sum_over_dim, got 'x'"):
        feature_distillation_loss(images, images, reduction="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got 5, 4, 5, 5 rows"):
        relation_distillation_loss(images, texts[:4], *teacher)
    with pytest.raises(ValueError, match="similarity: expected one of cosine, dot, got 'l2'"):
        relation_distillation_loss(images, texts, *teacher, similarity="l2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"reduction: expected one of fro_sq_over_batch, .*'kl'"):
        relation_distillation_loss(images, texts, *teacher, reduction="kl")  # type: ignore[arg-type]
    # Not only when the teacher has been trained and the first loss is computed.
    with pytest.raises(ValueError, match="reduction: expected one of mean"):
        FeatureDistillationLoss(reduction="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="similarity: expected one of cosine"):
        RelationDistillationLoss(similarity="l2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reduction: expected one of fro_sq_over_batch"):
        RelationDistillationLoss(reduction="kl")  # type: ignore[arg-type]


def loss_and_gradient(reduction: str, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Both losses of a shared linear map over some rows of a fixed batch, and their gradient."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(4, 8, 6, generator=generator)
    weight = torch.randn(6, 6, generator=generator, requires_grad=True)
    images, texts = inputs[0, rows] @ weight, inputs[1, rows] @ weight
    teacher_images, teacher_texts = inputs[2, rows], inputs[3, rows]
    relation = RelationDistillationLoss(reduction=reduction)  # type: ignore[arg-type]
    loss = relation(images, texts, teacher_images, teacher_texts)
    loss = loss + FeatureDistillationLoss()(images, teacher_images)
    (gradient,) = torch.autograd.grad(loss, weight)
    return loss.detach(), gradient


def train_step(rank: int) -> dict[str, tuple[float, np.ndarray]]:
    results = {}
    for reduction in ("fro_sq_over_batch", "fro", "fro_sq_mean"):
        loss, gradient = loss_and_gradient(reduction, slice(4 * rank, 4 * rank + 4))
        dist.all_reduce(loss)  # as DDP: the average over the ranks
        dist.all_reduce(gradient)
        results[reduction] = (loss.item() / 2, (gradient / 2).numpy())
    return results


@pytest.mark.ddp
@pytest.mark.slow
def test_two_ranks_train_like_one(on_two_ranks):
    for rank in on_two_ranks(train_step):
        for reduction, (loss, gradient) in rank.items():
            expected_loss, expected_gradient = loss_and_gradient(reduction, slice(None))
            assert loss == pytest.approx(expected_loss.item(), rel=1e-6)
            np.testing.assert_allclose(gradient, expected_gradient.numpy(), rtol=1e-5, atol=1e-6)
