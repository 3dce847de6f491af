"""DINOv3 (Siméoni et al., 2025), whose positions are rotations, so that any image size will do."""

from typing import Literal

import torch
from torch import nn
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from tireid.encoders.pretrained import load_exactly, read_pretrained
from tireid.structures import Images, Tokens

UNUSED = "embeddings.mask_token"  # of its pre-training


class DinoImageEncoder(nn.Module):
    """DINOv3's class token and patches after the last norm; its register tokens are left out.

    What is left of an image beside whole patches is not seen.

    Args:
        pretrained: Hub name or `save_pretrained` folder of a DINOv3 of these sizes, or False.
        patch_size: Side of a patch, in pixels.
        dim: Token width; also `out_dim`.
        depth: Number of transformer blocks.
        heads: Number of attention heads.
        mlp_dim: Hidden width of the MLPs, four times `dim` by default.
        registers: Number of register tokens.

    Raises:
        ValueError: If a head's width cannot be rotated.
    """

    dino: DINOv3ViTModel

    def __init__(
        self,
        pretrained: str | Literal[False] = False,
        patch_size: int = 16,
        dim: int = 384,
        depth: int = 12,
        heads: int = 6,
        mlp_dim: int | None = None,
        registers: int = 4,
    ) -> None:
        super().__init__()
        if dim % (4 * heads):
            raise ValueError(f"dim: expected a multiple of {4 * heads}, 4 a head, got {dim}")
        config = DINOv3ViTConfig(
            hidden_size=dim,
            intermediate_size=4 * dim if mlp_dim is None else mlp_dim,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            patch_size=patch_size,
            num_register_tokens=registers,
            pos_embed_rescale=None,  # random in training: images are augmented elsewhere
        )
        self.dino = DINOv3ViTModel(config)
        if pretrained is not False:
            state = read_pretrained("DINOv3ViTModel", pretrained).state_dict()
            load_exactly(self.dino, state, pretrained)
        self.dino.get_parameter(UNUSED).requires_grad_(False)
        self.first_patch = 1 + registers
        self.out_dim = dim

    def forward(self, images: Images) -> Tokens:
        """Encode normalised RGB images."""
        tokens = self.dino(images).last_hidden_state
        pooled, local = tokens[:, 0], tokens[:, self.first_patch :]
        return Tokens(pooled, local, local.new_ones(local.shape[:2], dtype=torch.bool))
