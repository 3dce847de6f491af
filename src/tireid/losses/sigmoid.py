"""The pairwise sigmoid loss between the images and texts of a batch."""

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn import functional as F

from tireid.losses.gather import gather_with_gradient
from tireid.losses.matching import check_pairs, same_identity
from tireid.losses.precision import dot_products, full_precision
from tireid.structures import Features, Ids, Scalar


def sigmoid_loss(
    image_features: Features,
    text_features: Features,
    pids: Ids | None = None,
    *,
    logit_scale: float | Scalar = 10.0,
    logit_bias: float | Scalar = -10.0,
) -> Scalar:
    """Compute the binary cross-entropy of each image-text combination of the batch being a pair.

    Args:
        image_features: Features of the images, normalised here.
        text_features: Features of the texts, normalised here; row i is the pair of image i.
        pids: Identity of each pair. If given, all pairs of an identity match one another; if not,
            only row i and column i do.
        logit_scale: Multiplies the cosine, above 0.
        logit_bias: Added after it; negative, since most combinations are none.

    Returns:
        Sum over the combinations, divided by the batch size, in nats, float32 or better.

    Raises:
        ValueError: If the modalities or `pids` differ in size.

    Source:
        Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (SigLIP), ICCV 2023,
        algorithm 1. Matches within an identity are ours.

    Example:
        >>> import torch
        >>> far = sigmoid_loss(torch.eye(4), torch.eye(4), logit_scale=40.0, logit_bias=-20.0)
        >>> far.round()
        tensor(0.)
    """
    check_pairs(image_features, text_features, pids)
    with full_precision(image_features, text_features) as (image, text):
        cosine = dot_products(F.normalize(image, dim=-1), F.normalize(text, dim=-1))
        match: Bool[Tensor, "batch batch"] = (
            torch.eye(len(image), dtype=torch.bool, device=image.device)
            if pids is None
            else same_identity(pids)
        )
        logits = logit_scale * cosine + logit_bias
        return -F.logsigmoid(torch.where(match, logits, -logits)).sum() / len(image)


class SigmoidLoss(nn.Module):
    """`sigmoid_loss` of the global batch, with its constants.

    Args:
        logit_scale: Multiplies the cosine.
        logit_bias: Added after it.
        share_identity: Whether all pairs of an identity match one another.
    """

    def __init__(
        self,
        *,
        logit_scale: float = 10.0,
        logit_bias: float = -10.0,
        share_identity: bool = False,
    ) -> None:
        super().__init__()
        self.logit_scale = logit_scale
        self.logit_bias = logit_bias
        self.share_identity = share_identity

    def forward(self, image_features: Features, text_features: Features, pids: Ids) -> Scalar:
        """Gather over processes, then compute; see `sigmoid_loss`."""
        return sigmoid_loss(
            gather_with_gradient(image_features),
            gather_with_gradient(text_features),
            gather_with_gradient(pids) if self.share_identity else None,
            logit_scale=self.logit_scale,
            logit_bias=self.logit_bias,
        )
