"""Match the similarity distributions of a batch to its identity distributions: CMPM and SDM.

CMPC, which goes with CMPM, classifies projections.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tireid.losses.gather import gather_with_gradient
from tireid.losses.matching import check_pairs, same_identity
from tireid.losses.precision import dot_products, full_precision
from tireid.structures import Features, Ids, Scalar


def _divergence(
    logits: Float[Tensor, "batch batch"], target: Float[Tensor, "batch batch"], epsilon: float
) -> Scalar:
    """Return the mean over rows of KL(softmax(logits) || target + epsilon)."""
    log_p = F.log_softmax(logits, dim=-1)
    return (log_p.exp() * (log_p - torch.log(target + epsilon))).sum(dim=-1).mean()


def cmpm_loss(
    image_features: Features,
    text_features: Features,
    pids: Ids,
    *,
    epsilon: float = 1e-8,
    target: Literal["sum", "l2"] = "sum",
) -> Scalar:
    """Match the distribution of projections in a batch to its identity distribution.

    For image i, p_ij = softmax_j(v_i . t_j / ||t_j||) and the loss is the mean over i of
    sum_j p_ij (log p_ij - log(q_ij + epsilon)); the same for text i over the images.

    Args:
        image_features: Features of the images, not normalised; the length of each scales the
            logits of its row.
        text_features: Features of the texts, not normalised; row i is the pair of image i.
        pids: Identity of each pair; pairs of one identity match one another.
        epsilon: Added to the target inside the logarithm, above 0.
        target: How a row of k matches becomes q: "sum" gives 1/k each, "l2" gives 1/sqrt(k).

    Returns:
        Sum of both directions, each a mean over the batch, in nats, float32 or better.

    Raises:
        ValueError: If the modalities or `pids` differ in size, or `target` has another value.

    Source:
        Zhang & Lu, "Deep Cross-Modal Projection Learning for Image-Text Matching", ECCV 2018,
        eq. 1-5. Paper: q sums to 1. Public implementations: "l2", which does not sum to 1 when an
        identity occurs twice in the batch, so the divergence can be negative. Here: the paper's.

    Example:
        >>> same = torch.zeros(4, 8)
        >>> cmpm_loss(same, same, torch.tensor([7, 7, 7, 7])).abs() < 1e-6
        tensor(True)
    """
    check_pairs(image_features, text_features, pids)
    if target not in ("sum", "l2"):
        raise ValueError(f'expected target "sum" or "l2", got "{target}"')
    with full_precision(image_features, text_features) as (image, text):
        matches = same_identity(pids).to(image.dtype)
        q = F.normalize(matches, p=1.0 if target == "sum" else 2.0, dim=-1)
        image_to_text = _divergence(dot_products(image, F.normalize(text, dim=-1)), q, epsilon)
        text_to_image = _divergence(dot_products(text, F.normalize(image, dim=-1)), q, epsilon)
        return image_to_text + text_to_image


def sdm_loss(
    image_features: Features,
    text_features: Features,
    pids: Ids,
    *,
    temperature: float = 0.02,
    epsilon: float = 1e-8,
) -> Scalar:
    """Match the distribution of cosine similarities in a batch to its identity distribution.

    CMPM with both sides normalised and a temperature: p_ij = softmax_j(cos(v_i, t_j) / temperature)
    against q_ij = 1 / (number of pairs of identity i) where j is one of them, 0 elsewhere.

    Args:
        image_features: Features of the images, normalised here.
        text_features: Features of the texts, normalised here; row i is the pair of image i.
        pids: Identity of each pair; pairs of one identity match one another.
        temperature: Divides the cosine, above 0.
        epsilon: Added to the target inside the logarithm, above 0.

    Returns:
        Sum of both directions, each a mean over the batch, in nats, float32 or better.

    Raises:
        ValueError: If the modalities or `pids` differ in size, or `temperature` is not positive.

    Source:
        Jiang & Ye, "Cross-Modal Implicit Relation Reasoning and Aligning for Text-to-Image Person
        Retrieval" (IRRA), CVPR 2023, section 3.3.

    Example:
        >>> same = torch.ones(4, 8)
        >>> sdm_loss(same, same, torch.tensor([7, 7, 7, 7])).abs() < 1e-6
        tensor(True)
    """
    check_pairs(image_features, text_features, pids)
    if temperature <= 0:
        raise ValueError(f"expected a temperature above 0, got {temperature}")
    with full_precision(image_features, text_features) as (image, text):
        q = F.normalize(same_identity(pids).to(image.dtype), p=1.0, dim=-1)
        cosines = dot_products(F.normalize(image, dim=-1), F.normalize(text, dim=-1))
        logits = cosines / temperature
        return _divergence(logits, q, epsilon) + _divergence(logits.mT, q, epsilon)


class CmpmLoss(nn.Module):
    """`cmpm_loss` of the global batch, with its constants."""

    def __init__(self, *, epsilon: float = 1e-8, target: Literal["sum", "l2"] = "sum") -> None:
        super().__init__()
        self.epsilon = epsilon
        self.target: Literal["sum", "l2"] = target

    def forward(self, image_features: Features, text_features: Features, pids: Ids) -> Scalar:
        """Gather over processes, then compute; see `cmpm_loss`."""
        return cmpm_loss(
            gather_with_gradient(image_features),
            gather_with_gradient(text_features),
            gather_with_gradient(pids),
            epsilon=self.epsilon,
            target=self.target,
        )


def cmpc_loss(
    image_features: Features,
    text_features: Features,
    labels: Ids,
    weights: Float[Tensor, "ids dim"],
) -> Scalar:
    """Classify the projection of each feature onto its normalised pair.

    For image i, (v_i . t_i / ||t_i||) t_i / ||t_i|| is scored with the normalised weights of the
    classes; the loss is the cross-entropy; the same for text i.

    Args:
        image_features: Features of the images, not normalised.
        text_features: Features of the texts, not normalised; row i is the pair of image i.
        labels: Training class of each pair, 0 .. ids - 1.
        weights: Weights of the classes, normalised here.

    Returns:
        Sum of both directions, each a mean over the batch, in nats, float32 or better.

    Raises:
        ValueError: If the modalities or `labels` differ in size.

    Source:
        Zhang & Lu, ECCV 2018, eq. 6-9.
    """
    check_pairs(image_features, text_features, labels)
    with full_precision(image_features, text_features, weights) as (image, text, wide):
        classes = F.normalize(wide, dim=-1)

        def classified(features: Tensor, others: Tensor) -> Tensor:
            direction = F.normalize(others, dim=-1)
            along = (features * direction).sum(dim=-1, keepdim=True) * direction
            return F.cross_entropy(dot_products(along, classes), labels.long())

        return classified(image, text) + classified(text, image)


class CmpmCmpcLoss(nn.Module):
    """The sum of `cmpm_loss` and `cmpc_loss` of the global batch.

    Args:
        **constants: Those of `CmpmLoss`.

    Attributes:
        classifies: Tells callers to pass the class of each pair and the weights of the classes.
    """

    classifies = True

    def __init__(self, **constants: Any) -> None:
        super().__init__()
        self.cmpm = CmpmLoss(**constants)

    def forward(
        self,
        image_features: Features,
        text_features: Features,
        pids: Ids,
        *,
        labels: Ids,
        weights: Float[Tensor, "ids dim"],
    ) -> Scalar:
        """Gather over processes what depends on the whole batch, then compute."""
        matched = self.cmpm(image_features, text_features, pids)
        return matched + cmpc_loss(image_features, text_features, labels, weights)


class SdmLoss(nn.Module):
    """`sdm_loss` of the global batch, with its constants."""

    def __init__(self, *, temperature: float = 0.02, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.temperature = temperature
        self.epsilon = epsilon

    def forward(self, image_features: Features, text_features: Features, pids: Ids) -> Scalar:
        """Gather over processes, then compute; see `sdm_loss`."""
        return sdm_loss(
            gather_with_gradient(image_features),
            gather_with_gradient(text_features),
            gather_with_gradient(pids),
            temperature=self.temperature,
            epsilon=self.epsilon,
        )
