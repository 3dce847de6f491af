"""The two towers of CLIP (Radford et al., ICML 2021), any image size, with all tokens projected."""

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from tireid.encoders.bert import check_length
from tireid.encoders.patches import check_image_size, patch_grid, resize_positions
from tireid.encoders.pretrained import load_exactly, read_pretrained
from tireid.structures import Ids, Images, TokenIds, Tokens, Valid

POSITIONS = "vision_model.embeddings.position_embedding.weight"


class ClipImageEncoder(nn.Module):
    """CLIP's vision transformer: class token and patches after the last norm and the projection.

    CLIP itself applies both to the class token only; here the patches share them, so that `pooled`
    and `local` live in the space of the texts.

    Args:
        pretrained: Hub name or `save_pretrained` folder of a CLIP of these sizes, or False.
        image_size: Height and width, in pixels; both divisible by the patch.
        patch_size: Side of a patch, in pixels.
        dim: Token width inside.
        depth: Number of transformer blocks.
        heads: Number of attention heads.
        mlp_dim: Hidden width of the MLPs, four times `dim` by default.
        out_dim: Width of the space shared with the texts.
        activation: Of the MLPs: OpenAI's have `quick_gelu`, LAION's `gelu`.

    Attributes:
        space: Name of the space that both towers end in.
    """

    space = "clip"
    clip: CLIPVisionModelWithProjection

    def __init__(
        self,
        pretrained: str | Literal[False] = False,
        image_size: Sequence[int] = (384, 128),
        patch_size: int = 16,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_dim: int | None = None,
        out_dim: int = 512,
        activation: str = "quick_gelu",
    ) -> None:
        super().__init__()
        grid = patch_grid(image_size, patch_size)
        self.image_size = (image_size[0], image_size[1])
        self.out_dim = out_dim
        config = CLIPVisionConfig(
            hidden_size=dim,
            intermediate_size=4 * dim if mlp_dim is None else mlp_dim,
            projection_dim=out_dim,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            patch_size=patch_size,
            image_size=patch_size,
            hidden_act=activation,
        )
        self.clip = CLIPVisionModelWithProjection(config)
        # The library's embeddings are for square images only.
        self.clip.vision_model.add_module("embeddings", _PatchEmbeddings(dim, patch_size, grid))
        if pretrained is not False:
            model = read_pretrained("CLIPVisionModelWithProjection", pretrained)
            state = model.state_dict()
            side = model.config.image_size // model.config.patch_size
            state[POSITIONS] = resize_positions(
                state[POSITIONS][None], old_grid=(side, side), new_grid=grid
            )[0]
            load_exactly(self.clip, state, pretrained)

    def forward(self, images: Images) -> Tokens:
        """Encode normalised RGB images of `image_size`."""
        return self.with_attention(images, wanted=False)[0]

    def with_attention(
        self, images: Images, *, wanted: bool = True
    ) -> tuple[Tokens, Float[Tensor, "batch length"] | None]:
        """Encode images, and return what the class token gives each patch in the last block.

        Args:
            images: Normalised RGB, of `image_size`.
            wanted: Whether the attention weights are computed: the mean over the heads, in float32
                or better, without gradient.
        """
        check_image_size(images, self.image_size)
        vision = self.clip.vision_model
        tokens = vision.pre_layrnorm(vision.embeddings(images))
        last = vision.encoder.layers[-1]
        for layer in vision.encoder.layers[:-1]:
            tokens = layer(tokens, None)
        first = tokens.new_zeros(len(tokens), dtype=torch.int64)
        attention = _attention_from(first, last, tokens)[:, 1:] if wanted else None
        tokens = self.clip.visual_projection(vision.post_layernorm(last(tokens, None)))
        pooled, local = tokens[:, 0], tokens[:, 1:]
        valid = local.new_ones(local.shape[:2], dtype=torch.bool)
        return Tokens(pooled, local, valid), attention


class ClipTextEncoder(nn.Module):
    """CLIP's causal text transformer: every position after the last norm and the projection.

    `pooled` is the last valid position, the end-of-text token (which tokenizers must therefore
    keep when they cut). `local` holds every position, start and end included; its rows at padding
    have no meaning. Padding must follow the words.

    Args:
        pretrained: Hub name or `save_pretrained` folder of a CLIP of these sizes, or False.
        vocab_size: Number of token ids.
        dim: Token width inside.
        depth: Number of transformer blocks.
        heads: Number of attention heads.
        mlp_dim: Hidden width of the MLPs, four times `dim` by default.
        max_positions: Longest caption, in tokens.
        out_dim: Width of the space shared with the images.
        activation: Of the MLPs, as in the image encoder.

    Attributes:
        space: Name of the space that both towers end in.
    """

    space = "clip"
    clip: CLIPTextModelWithProjection

    def __init__(
        self,
        pretrained: str | Literal[False] = False,
        vocab_size: int = 49408,
        dim: int = 512,
        depth: int = 12,
        heads: int = 8,
        mlp_dim: int | None = None,
        max_positions: int = 77,
        out_dim: int = 512,
        activation: str = "quick_gelu",
    ) -> None:
        super().__init__()
        config = CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=dim,
            intermediate_size=4 * dim if mlp_dim is None else mlp_dim,
            projection_dim=out_dim,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            max_position_embeddings=max_positions,
            hidden_act=activation,
            # CLIP's last two ids; the library checks their range, and nothing here depends on them.
            bos_token_id=vocab_size - 2,
            eos_token_id=vocab_size - 1,
        )
        self.clip = CLIPTextModelWithProjection(config)
        if pretrained is not False:
            state = read_pretrained("CLIPTextModelWithProjection", pretrained).state_dict()
            load_exactly(self.clip, state, pretrained)
        self.max_positions = max_positions
        self.out_dim = out_dim

    def forward(self, token_ids: TokenIds, valid: Valid) -> Tokens:
        """Encode captions of at most `max_positions` tokens."""
        return self.with_attention(token_ids, valid, wanted=False)[0]

    def with_attention(
        self, token_ids: TokenIds, valid: Valid, *, wanted: bool = True
    ) -> tuple[Tokens, Float[Tensor, "batch length"] | None]:
        """Encode captions, and return what the end token gives each position in the last block.

        Args:
            token_ids: At most `max_positions` of them.
            valid: True = real token.
            wanted: As in `ClipImageEncoder.with_attention`.
        """
        check_length(token_ids, self.max_positions)
        # Attention is causal: no word sees the padding that follows it, so no mask is needed.
        text = self.clip.text_model
        output = text(token_ids, output_hidden_states=wanted)
        local = self.clip.text_projection(output.last_hidden_state)
        last = valid.sum(dim=1) - 1
        pooled = local[torch.arange(len(local), device=local.device), last]
        attention = None
        if wanted:
            layer = text.encoder.layers[-1]
            attention = _attention_from(last, layer, output.hidden_states[-2], valid)
        return Tokens(pooled, local, valid), attention


@torch.no_grad()
def _attention_from(
    position: Ids,
    layer: nn.Module,
    hidden: Float[Tensor, "batch length dim"],
    seen: Bool[Tensor, "batch length"] | None = None,
) -> Float[Tensor, "batch length"]:
    """Return the weights that one position of each sample gives all, mean over the heads.

    Args:
        position: The position of each sample.
        layer: A block of CLIP.
        hidden: What goes into it.
        seen: Positions that it attends to, which share the weight; None: all.
    """
    attention: Any = layer.self_attn
    normed = cast(nn.Module, layer.layer_norm1)(hidden)
    own = normed[torch.arange(len(normed), device=normed.device), position]
    query, keys = attention.q_proj(own), attention.k_proj(normed)
    wide = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        query, keys = (
            part.to(wide).unflatten(-1, (attention.num_heads, -1)) for part in (query, keys)
        )
        scores = torch.einsum("bhd,blhd->bhl", query, keys) * attention.scale
        if seen is not None:
            scores = scores.masked_fill(~seen[:, None], -torch.inf)
        return scores.softmax(dim=-1).mean(dim=1)


class _PatchEmbeddings(nn.Module):
    """Class token, patches and positions under CLIP's names and with its initial spreads."""

    def __init__(self, dim: int, patch_size: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(dim) * dim**-0.5)
        self.patch_embedding = nn.Conv2d(3, dim, patch_size, stride=patch_size, bias=False)
        self.position_embedding = nn.Embedding(1 + grid[0] * grid[1], dim)
        nn.init.normal_(self.patch_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def forward(self, images: Images) -> Float[Tensor, "batch length dim"]:
        patches = rearrange(self.patch_embedding(images), "batch dim h w -> batch (h w) dim")
        class_token = self.class_embedding.expand(len(patches), 1, -1)
        return torch.cat([class_token, patches], dim=1) + self.position_embedding.weight
