"""A margin between each pair and the other combinations of the batch."""

from torch import Tensor, nn
from torch.nn import functional as F

from tireid.losses.gather import gather_with_gradient
from tireid.losses.matching import same_identity
from tireid.losses.precision import dot_products, full_precision
from tireid.structures import Features, Ids, Scalar


class MarginLoss(nn.Module):
    """The hinge of each pair against every other identity of the global batch, both ways.

    Args:
        margin: How much a pair's cosine is to be above those of false matches.
    """

    def __init__(self, *, margin: float = 0.2) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, image_features: Features, text_features: Features, pids: Ids) -> Scalar:
        """Return the sum over false matches, divided by the batch size."""
        sides = gather_with_gradient(image_features), gather_with_gradient(text_features)
        others = ~same_identity(gather_with_gradient(pids))
        with full_precision(*sides) as (images, texts):
            cosine = dot_products(F.normalize(images, dim=-1), F.normalize(texts, dim=-1))
            pairs: Tensor = cosine.diagonal()
            hinges = [(self.margin + cosine - pair).relu() for pair in (pairs, pairs[:, None])]
            return (sum(hinges) * others).sum() / len(others)
