"""DINOv2 (Oquab et al., 2023) and DINOv3 (Siméoni et al., 2025), any image size.

What is left of an image beside whole patches is not seen.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn
from transformers import Dinov2Config, Dinov2Model, DINOv3ViTConfig, DINOv3ViTModel

from tireid.encoders.patches import check_image_size, resize_positions
from tireid.encoders.pretrained import load_exactly, read_pretrained
from tireid.structures import Images, Tokens

UNUSED = "embeddings.mask_token"  # of the pre-training
POSITIONS = "embeddings.position_embeddings"


class Dinov2ImageEncoder(nn.Module):
    """DINOv2's class token and patches after the last norm.

    Args:
        pretrained: Hub name or `save_pretrained` folder of a DINOv2 of these sizes, without
            registers, or False. Its positions are resized bicubically, as by the library.
        image_size: Height and width, in pixels.
        patch_size: Side of a patch, in pixels.
        dim: Token width; also `out_dim`.
        depth: Number of transformer blocks.
        heads: Number of attention heads.

    Raises:
        ValueError: If an image has no whole patch.
    """

    dino: Dinov2Model

    def __init__(
        self,
        pretrained: str | Literal[False] = False,
        image_size: Sequence[int] = (384, 128),
        patch_size: int = 14,
        dim: int = 384,
        depth: int = 12,
        heads: int = 6,
    ) -> None:
        super().__init__()
        if len(image_size) != 2 or min(image_size) < patch_size:
            raise ValueError(
                f"image_size: expected [height, width] of at least {patch_size} pixels, a patch, "
                f"got {list(image_size)}"
            )
        self.image_size = (image_size[0], image_size[1])
        config = Dinov2Config(
            hidden_size=dim,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            patch_size=patch_size,
            image_size=list(self.image_size),
        )
        self.dino = Dinov2Model(config)
        if pretrained is not False:
            # Read as Dinov2Model, one with registers would silently lose them.
            model = read_pretrained("AutoModel", pretrained)
            state = model.state_dict()
            if POSITIONS in state:
                old_grid, new_grid = _grid(model), _grid(self.dino)
                state[POSITIONS] = resize_positions(
                    state[POSITIONS], old_grid=old_grid, new_grid=new_grid, mode="bicubic"
                )
            load_exactly(self.dino, state, pretrained)
        self.dino.get_parameter(UNUSED).requires_grad_(False)
        self.out_dim = dim

    def forward(self, images: Images) -> Tokens:
        """Encode normalised RGB images of `image_size`."""
        check_image_size(images, self.image_size)
        # The library's embeddings resize the positions in each pass, from a square.
        embeddings = self.dino.embeddings
        patches = embeddings.patch_embeddings(images)
        first = embeddings.cls_token.expand(len(images), -1, -1)
        tokens = torch.cat([first, patches], dim=1) + embeddings.position_embeddings
        tokens = self.dino.layernorm(self.dino.encoder(tokens).last_hidden_state)
        pooled, local = tokens[:, 0], tokens[:, 1:]
        return Tokens(pooled, local, local.new_ones(local.shape[:2], dtype=torch.bool))


def _grid(model: Any) -> tuple[int, int]:
    patches = model.embeddings.patch_embeddings
    height, width = (side // patches.patch_size[0] for side in patches.image_size)
    return height, width


class DinoImageEncoder(nn.Module):
    """DINOv3's class token and patches after the last norm; its register tokens are left out.

    Its positions are rotations, so images may have any size.

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
