"""Distillation of LCR2S: features and image-text relations of a student follow a teacher's."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tireid.losses.gather import gather_with_gradient
from tireid.losses.precision import dot_products, full_precision
from tireid.structures import Features, Scalar

FeatureReduction = Literal["mean", "sum_over_dim"]
Similarity = Literal["cosine", "dot"]
RelationReduction = Literal["fro_sq_over_batch", "fro", "fro_sq_mean"]


def feature_distillation_loss(
    student: Features,
    teacher: Features,
    *,
    normalize: bool = False,
    reduction: FeatureReduction = "mean",
) -> Scalar:
    """Compute the squared distance of the student's features from the teacher's, of one modality.

    It needs no gathering: the mean of equal batches over processes is the mean of the whole.

    Args:
        student: Features, not normalised.
        teacher: Target features, not normalised; they get no gradient.
        normalize: Whether both are brought to unit norm first. The distance is then
            2 - 2 cos, and lengths are free.
        reduction: "mean" over batch and dimensions, or "sum_over_dim": the sum over dimensions,
            then the mean over the batch.

    Returns:
        0 at equality; float32 or better.

    Raises:
        ValueError: If the shapes differ, or `reduction` has another value.

    Source:
        Yan et al., LCR2S, ACM MM 2023: a mean squared error, known second hand; normalisation and
        reduction are not known. The defaults are the literal reading.

    Example:
        >>> import torch
        >>> feature_distillation_loss(torch.zeros(2, 4), torch.ones(2, 4))
        tensor(1.)
    """
    if student.shape != teacher.shape:
        raise ValueError(
            "expected features of student and teacher of one shape, got "
            f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    _check("reduction", reduction, get_args(FeatureReduction))
    with full_precision(student, teacher.detach()) as (features, target):
        if normalize:
            features, target = F.normalize(features, dim=-1), F.normalize(target, dim=-1)
        squares = (features - target).square()
        return squares.mean() if reduction == "mean" else squares.sum(dim=-1).mean()


def relation_distillation_loss(
    student_images: Features,
    student_texts: Features,
    teacher_images: Float[Tensor, "batch teacher_dim"],
    teacher_texts: Float[Tensor, "batch teacher_dim"],
    *,
    similarity: Similarity = "cosine",
    reduction: RelationReduction = "fro_sq_over_batch",
) -> Scalar:
    """Compute the distance between the image-text similarity matrices of student and teacher.

    One matrix holds both directions: its rows are a text's images, its columns an image's texts.

    Args:
        student_images: Features, not normalised; row i of all four is pair i.
        student_texts: Features, not normalised.
        teacher_images: Target features, not normalised; they may have another width and get no
            gradient.
        teacher_texts: Target features of the same width; they get no gradient.
        similarity: "cosine", by which images are ranked, or "dot".
        reduction: Norm of the B x B difference D: "fro_sq_over_batch" is ||D||^2 / B, "fro" is
            ||D||, "fro_sq_mean" is ||D||^2 / B^2, in Frobenius norms.

    Returns:
        0 at equality, with gradient 0 there; float32 or better.

    Raises:
        ValueError: If the batch sizes differ, or an option has another value.

    Source:
        Yan et al., LCR2S, ACM MM 2023: a Frobenius norm, known second hand, not a divergence of
        softmax distributions; similarity and reduction are not known. The defaults are ours.

    Example:
        >>> import torch
        >>> a, b = torch.eye(2), torch.ones(2, 2)
        >>> relation_distillation_loss(a, a, b, b, reduction="fro_sq_mean")  # [1 0; 0 1] - 1
        tensor(0.5000)
    """
    sizes = [len(f) for f in (student_images, student_texts, teacher_images, teacher_texts)]
    if len(set(sizes)) != 1:
        raise ValueError(
            "expected one row per pair in the images and texts of student and teacher, got "
            f"{', '.join(map(str, sizes))} rows"
        )
    _check("similarity", similarity, get_args(Similarity))
    _check("reduction", reduction, get_args(RelationReduction))
    with full_precision(
        student_images, student_texts, teacher_images.detach(), teacher_texts.detach()
    ) as features:
        if similarity == "cosine":
            features = tuple(F.normalize(feature, dim=-1) for feature in features)
        images, texts, target_images, target_texts = features
        relation = dot_products(texts, images)
        target = dot_products(target_texts, target_images)
        if reduction == "fro":
            return torch.dist(relation, target)
        squares = (relation - target).square()
        return squares.mean() if reduction == "fro_sq_mean" else squares.sum() / len(images)


class FeatureDistillationLoss(nn.Module):
    """`feature_distillation_loss` with its constants.

    Args:
        normalize: See `feature_distillation_loss`.
        reduction: See `feature_distillation_loss`.

    Raises:
        ValueError: If `reduction` has another value.
    """

    def __init__(self, *, normalize: bool = False, reduction: FeatureReduction = "mean") -> None:
        super().__init__()
        _check("reduction", reduction, get_args(FeatureReduction))
        self.normalize = normalize
        self.reduction: FeatureReduction = reduction

    def forward(self, student: Features, teacher: Features) -> Scalar:
        """Compute the loss of this process's share; see `feature_distillation_loss`."""
        return feature_distillation_loss(
            student, teacher, normalize=self.normalize, reduction=self.reduction
        )


class RelationDistillationLoss(nn.Module):
    """`relation_distillation_loss` of the global batch, with its constants.

    Args:
        similarity: See `relation_distillation_loss`.
        reduction: See `relation_distillation_loss`.

    Raises:
        ValueError: If an option has another value.
    """

    def __init__(
        self,
        *,
        similarity: Similarity = "cosine",
        reduction: RelationReduction = "fro_sq_over_batch",
    ) -> None:
        super().__init__()
        _check("similarity", similarity, get_args(Similarity))
        _check("reduction", reduction, get_args(RelationReduction))
        self.similarity: Similarity = similarity
        self.reduction: RelationReduction = reduction

    def forward(
        self,
        student_images: Features,
        student_texts: Features,
        teacher_images: Float[Tensor, "batch teacher_dim"],
        teacher_texts: Float[Tensor, "batch teacher_dim"],
    ) -> Scalar:
        """Gather over processes, then compute; see `relation_distillation_loss`."""
        return relation_distillation_loss(
            gather_with_gradient(student_images),
            gather_with_gradient(student_texts),
            gather_with_gradient(teacher_images.detach()),
            gather_with_gradient(teacher_texts.detach()),
            similarity=self.similarity,
            reduction=self.reduction,
        )


def _check(name: str, value: str, expected: tuple[str, ...]) -> None:
    if value not in expected:
        raise ValueError(f"{name}: expected one of {', '.join(expected)}, got {value!r}")
