"""A tiny image encoder: an MLP on each patch, without any context."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tireid.structures import Tokens


class PatchMlp(nn.Module):
    """Patches as tokens, their mean as the pooled feature.

    Args:
        pretrained: There are no weights to load, so only False.
        patch_size: Side of a patch, in pixels.
        dim: Width of the tokens.
    """

    def __init__(
        self, pretrained: Literal[False] = False, patch_size: int = 8, dim: int = 128
    ) -> None:
        super().__init__()
        if pretrained is not False:
            raise ValueError(f"pretrained: expected false, got {pretrained!r}")
        self.patch = nn.Conv2d(3, dim, patch_size, stride=patch_size)
        self.mix = nn.Sequential(nn.GELU(), nn.Linear(dim, dim))
        self.out_dim = dim

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Tokens:
        """Encode normalised RGB images."""
        local = self.mix(self.patch(images).flatten(2).mT)
        return Tokens(local.mean(dim=1), local, local.new_ones(local.shape[:2], dtype=torch.bool))
