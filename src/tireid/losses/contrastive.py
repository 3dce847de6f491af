"""InfoNCE between the images and texts of a batch."""

from torch import nn
from torch.nn import functional as F

from tireid.losses.gather import gather_with_gradient
from tireid.losses.matching import check_pairs, same_identity
from tireid.losses.precision import dot_products, full_precision
from tireid.structures import Features, Ids, Scalar


def info_nce_loss(
    image_features: Features,
    text_features: Features,
    pids: Ids | None = None,
    *,
    logit_scale: float | Scalar = 1 / 0.07,
) -> Scalar:
    """Compute the cross-entropy of finding each image's text in the batch, and each text's image.

    Args:
        image_features: Features of the images, normalised here.
        text_features: Features of the texts, normalised here; row i is the pair of image i.
        pids: Identity of each pair. If given, all k pairs of an identity are its positives, with
            weight 1/k each; if not, only the pair itself is, and others of its identity are
            negatives.
        logit_scale: Multiplies the cosine, above 0. To train it, pass the exponential of a
            parameter.

    Returns:
        Mean of both directions, each a mean over the batch, in nats, float32 or better.

    Raises:
        ValueError: If the modalities or `pids` differ in size.

    Source:
        Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"
        (CLIP), ICML 2021, figure 3. Targets shared within an identity are ours.

    Example:
        >>> import torch
        >>> same = torch.ones(5, 8)
        >>> info_nce_loss(same, same).exp().round()
        tensor(5.)
    """
    check_pairs(image_features, text_features, pids)
    with full_precision(image_features, text_features) as (image, text):
        logits = logit_scale * dot_products(F.normalize(image, dim=-1), F.normalize(text, dim=-1))
        if pids is None:
            target = image.new_ones(len(image)).diag()
        else:
            target = F.normalize(same_identity(pids).to(image.dtype), p=1.0, dim=-1)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.mT, target)) / 2


class InfoNceLoss(nn.Module):
    """`info_nce_loss` of the global batch, with its constants.

    Args:
        logit_scale: Multiplies the cosine where the caller passes no trained one.
        share_identity: Whether all pairs of an identity are positives of one another.
    """

    def __init__(self, *, logit_scale: float = 1 / 0.07, share_identity: bool = False) -> None:
        super().__init__()
        self.logit_scale = logit_scale
        self.share_identity = share_identity

    def forward(
        self,
        image_features: Features,
        text_features: Features,
        pids: Ids,
        logit_scale: Scalar | None = None,
    ) -> Scalar:
        """Gather over processes, then compute; see `info_nce_loss`."""
        return info_nce_loss(
            gather_with_gradient(image_features),
            gather_with_gradient(text_features),
            gather_with_gradient(pids) if self.share_identity else None,
            logit_scale=self.logit_scale if logit_scale is None else logit_scale,
        )
