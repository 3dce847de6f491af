"""Triplet alignment loss: each anchor against a soft maximum over all its negatives."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from tireid.losses.gather import gather_with_gradient
from tireid.losses.matching import check_pairs, same_identity
from tireid.losses.precision import dot_products, full_precision
from tireid.structures import Features, Ids, Scalar

Reduction = Literal["sum", "mean"]


def triplet_alignment(
    image_features: Features,
    text_features: Features,
    pids: Ids,
    *,
    margin: float = 0.1,
    temperature: float = 0.015,
) -> Float[Tensor, " batch"]:
    """Compute the triplet alignment loss of each pair.

    With the cosines S_ij of text i and image j, half_i(S) = max(0, margin - sum_j a_ij S_ij +
    temperature log sum_{j negative} exp(S_ij / temperature)), where a_ij is the softmax of
    S_ij / temperature over the positives of i, without gradient; the loss of pair i is
    half_i(S) + half_i(S^T). An anchor without negatives has none.

    Args:
        image_features: Features of the images, normalised here.
        text_features: Features of the texts, normalised here; row i is the pair of image i.
        pids: Identity of each pair; pairs of one identity match one another.
        margin: What the positives must be ahead by, in cosines.
        temperature: Divides the cosine, above 0; the smaller, the harder the maximum.

    Returns:
        One value a pair, at least 0, in float32 or better.

    Raises:
        ValueError: If the modalities or `pids` differ in size, or `temperature` is not positive.

    Source:
        Qin et al., RDE, CVPR 2024 (arXiv 2308.09911), and its code, QinYang79/RDE at b3fd396. The
        code bounds the sum by 1e36, which a temperature of 0.015 cannot reach, and gives NaN
        gradients for a batch of one identity; here such anchors are skipped.

    Example:
        >>> apart = torch.eye(3)
        >>> triplet_alignment(apart, apart, torch.arange(3), margin=0.0)
        tensor([0., 0., 0.])
    """
    check_pairs(image_features, text_features, pids)
    if temperature <= 0:
        raise ValueError(f"temperature: expected a number above 0, got {temperature}")
    with full_precision(image_features, text_features) as (image, text):
        cosines = dot_products(F.normalize(text, dim=-1), F.normalize(image, dim=-1))
        positive = same_identity(pids)
        halves = [_half(s, positive, margin, temperature) for s in (cosines, cosines.mT)]
        return halves[0] + halves[1]


def _half(
    cosines: Float[Tensor, "batch batch"],
    positive: Bool[Tensor, "batch batch"],
    margin: float,
    temperature: float,
) -> Float[Tensor, " batch"]:
    logits = cosines / temperature
    weights = logits.detach().masked_fill(~positive, -torch.inf).softmax(dim=1)
    alone = positive.all(dim=1)
    # Where all logits are infinite the gradient would be NaN, even of a value that is not used.
    negatives = logits.masked_fill(positive & ~alone[:, None], -torch.inf).logsumexp(dim=1)
    loss = F.relu(margin - (weights * cosines).sum(dim=1) + temperature * negatives)
    return torch.where(alone, 0.0, loss)


class TalLoss(nn.Module):
    """`triplet_alignment` of the global batch, with its constants.

    Args:
        margin: As in `triplet_alignment`.
        temperature: As in `triplet_alignment`.
        reduction: `sum` over the batch, as in the official code, so that the batch size scales the
            gradient; or `mean`.

    Raises:
        ValueError: If `reduction` is neither.
    """

    def __init__(
        self, *, margin: float = 0.1, temperature: float = 0.015, reduction: Reduction = "sum"
    ) -> None:
        super().__init__()
        if reduction not in ("sum", "mean"):
            raise ValueError(f"reduction: expected sum or mean, got {reduction!r}")
        self.margin = margin
        self.temperature = temperature
        self.reduction = reduction

    def per_pair(
        self, image_features: Features, text_features: Features, pids: Ids
    ) -> Float[Tensor, " global_batch"]:
        """Gather over processes, then return the loss of each pair of the global batch."""
        return triplet_alignment(
            gather_with_gradient(image_features),
            gather_with_gradient(text_features),
            gather_with_gradient(pids),
            margin=self.margin,
            temperature=self.temperature,
        )

    def forward(
        self,
        image_features: Features,
        text_features: Features,
        pids: Ids,
        kept: Bool[Tensor, " batch"] | None = None,
    ) -> Scalar:
        """Reduce the losses of the pairs; those that are not `kept` are no anchors."""
        losses = self.per_pair(image_features, text_features, pids)
        if kept is not None:
            losses = losses * gather_with_gradient(kept)
        return losses.sum() if self.reduction == "sum" else losses.mean()
