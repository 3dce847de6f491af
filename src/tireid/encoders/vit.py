"""Vision transformers (ViT, Dosovitskiy et al., ICLR 2021; DeiT, Touvron et al., ICML 2021)."""

from collections.abc import Sequence
from math import isqrt
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import ViTConfig, ViTModel

from tireid.encoders.patches import check_image_size, patch_grid, resize_positions
from tireid.encoders.pretrained import load_exactly, read_pretrained, unreadable
from tireid.runs.checkpoint import load_saved, loading_fault, weights_fault
from tireid.structures import Images, Tokens

POSITIONS = "embeddings.position_embeddings"

# The names of the original DeiT files, and of this version of transformers.
ORIGINAL_NAMES = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": POSITIONS,
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "blocks.": "layers.",
    ".norm1.": ".layernorm_before.",
    ".norm2.": ".layernorm_after.",
    ".attn.proj.": ".attention.o_proj.",
    ".attn.qkv.": ".attention.qkv.",
}


class DropPath(nn.Module):
    """Stochastic depth: drop whole residuals of samples in training and scale up the others."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"drop_path_rate: expected 0 <= rate < 1, got {rate}")
        self.rate = rate

    def forward(
        self, residual: Float[Tensor, "batch length dim"]
    ) -> Float[Tensor, "batch length dim"]:
        """Return zero with probability `rate`, else `residual / (1 - rate)`, per sample."""
        if not self.training or self.rate == 0.0:
            return residual
        keep = torch.rand(len(residual), 1, 1, device=residual.device) >= self.rate
        return residual * (keep.to(residual.dtype) / (1 - self.rate))


class ViTEncoder(nn.Module):
    """Patch tokens, row by row, of a pre-norm vision transformer; `pooled` is its class token.

    Args:
        pretrained: Hub name or `save_pretrained` folder of a ViT or DeiT, or a `.pth` file in the
            layout of the original DeiT release, or False. A distillation token is dropped.
        image_size: Height and width, in pixels; both divisible by the patch.
        patch_size: Side of a patch, in pixels.
        dim: Width of the tokens; also `out_dim`.
        depth: Number of blocks of the original model, over which the stochastic depth grows.
        heads: Number of attention heads.
        mlp_dim: Hidden width of the MLPs, four times `dim` by default.
        trunk_depth: Number of first blocks that are used; the others are not created. LGUR: 11 of
            12.
        final_norm: Whether the last LayerNorm is applied. LGUR: no.
        drop_path_rate: Stochastic depth of the last of `depth` blocks, linear from 0 at the first.
    """

    vit: ViTModel

    def __init__(
        self,
        pretrained: str | Literal[False] = False,
        image_size: Sequence[int] = (384, 128),
        patch_size: int = 16,
        dim: int = 384,
        depth: int = 12,
        heads: int = 6,
        mlp_dim: int | None = None,
        trunk_depth: int | None = None,
        final_norm: bool = True,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.grid = patch_grid(image_size, patch_size)
        self.image_size = (image_size[0], image_size[1])
        self.out_dim = dim
        self.depth = depth
        trunk_depth = depth if trunk_depth is None else trunk_depth
        if not 1 <= trunk_depth <= depth:
            raise ValueError(f"trunk_depth: expected 1 to depth={depth}, got {trunk_depth}")
        config = ViTConfig(
            hidden_size=dim,
            num_hidden_layers=trunk_depth,
            num_attention_heads=heads,
            intermediate_size=4 * dim if mlp_dim is None else mlp_dim,
            image_size=self.image_size,
            patch_size=patch_size,
            layer_norm_eps=1e-6,
        )
        self.vit = ViTModel(config, add_pooling_layer=False)
        if not final_norm:
            self.vit.add_module("layernorm", nn.Identity())
        for index, layer in enumerate(self.vit.layers):
            # The library applies this module to both residuals of a block, just before they are
            # added: the place of stochastic depth, which it does not offer.
            layer.dropout = DropPath(drop_path_rate * index / max(depth - 1, 1))
        if pretrained is not False:
            self._load(pretrained)

    def forward(self, images: Images) -> Tokens:
        """Encode normalised RGB images of `image_size`."""
        check_image_size(images, self.image_size)
        tokens = self.vit(images).last_hidden_state
        pooled, local = tokens[:, 0], tokens[:, 1:]
        return Tokens(pooled, local, local.new_ones(local.shape[:2], dtype=torch.bool))

    def _load(self, source: str) -> None:
        if Path(source).is_file():
            state = _read_original(source)
        else:
            state = read_pretrained("AutoModel", source).state_dict()
        if POSITIONS not in state:
            raise ValueError(f"pretrained: expected a ViT or DeiT in '{source}', got none")
        positions = state[POSITIONS]
        side = isqrt(positions.shape[1] - 1)
        if any("dist" in key for key in state):
            positions = torch.cat([positions[:, :1], positions[:, 2:]], dim=1)
        if positions.shape[1] != 1 + side**2:
            raise ValueError(
                f"pretrained: expected positions of a square grid in '{source}', got a table of "
                f"{tuple(state[POSITIONS].shape)}"
            )
        state[POSITIONS] = resize_positions(positions, old_grid=(side, side), new_grid=self.grid)
        dropped = {f"layers.{index}." for index in range(len(self.vit.layers), self.depth)}
        dropped |= {"pooler.", "embeddings.mask_token"}
        if isinstance(self.vit.layernorm, nn.Identity):
            dropped.add("layernorm.")
        state = {
            key: value
            for key, value in state.items()
            if not key.startswith(tuple(dropped)) and "head" not in key and "dist" not in key
        }
        load_exactly(self.vit, state, source)


def _read_original(source: str) -> dict[str, Tensor]:
    """Return the weights of an original DeiT file under the names of transformers."""
    checkpoint: Any = None
    try:
        content = load_saved(Path(source))
        checkpoint = content.get("model") if isinstance(content, dict) else None
        fault = weights_fault(checkpoint) if isinstance(checkpoint, dict) else "no such key"
    except Exception as error:  # Broken files raise nearly anything.
        fault = loading_fault(error)
    if fault:
        raise unreadable(source, "a DeiT file with the key 'model'", fault)
    state: dict[str, Tensor] = {}
    for key, value in checkpoint.items():
        name = "layernorm." + key.removeprefix("norm.") if key.startswith("norm.") else key
        for original, new in ORIGINAL_NAMES.items():
            name = name.replace(original, new)
        if ".qkv." in name:
            for part, chunk in zip("qkv", value.chunk(3), strict=True):
                state[name.replace(".qkv.", f".{part}_proj.")] = chunk
        else:
            state[name] = value
    return state
