"""The two towers of SigLIP 2 (Tschannen et al., 2025; fixed resolution), any image size."""

from collections.abc import Sequence
from typing import Literal

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F
from transformers import (
    SiglipTextConfig,
    SiglipTextModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from tireid.encoders.bert import check_length
from tireid.encoders.patches import check_image_size, patch_grid, resize_positions
from tireid.encoders.pretrained import load_exactly, read_pretrained
from tireid.structures import Images, TokenIds, Tokens, Valid

POSITIONS = "embeddings.position_embedding.weight"


class SiglipImageEncoder(nn.Module):
    """SigLIP's vision transformer: patches after the last norm, pooled by attention.

    The space of the texts is that of `pooled`; there is no projection, and `local` is what it is
    pooled from.

    Args:
        pretrained: Hub name or `save_pretrained` folder of a SigLIP of these sizes, or False.
        image_size: Height and width, in pixels; both divisible by the patch.
        patch_size: Side of a patch, in pixels.
        dim: Token width; also `out_dim`.
        depth: Number of transformer blocks.
        heads: Number of attention heads.
        mlp_dim: Hidden width of the MLPs, four times `dim` by default.

    Attributes:
        space: Name of the space that both towers end in.
    """

    space = "siglip"
    siglip: SiglipVisionModel

    def __init__(
        self,
        pretrained: str | Literal[False] = False,
        image_size: Sequence[int] = (384, 128),
        patch_size: int = 16,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_dim: int | None = None,
    ) -> None:
        super().__init__()
        grid = patch_grid(image_size, patch_size)
        self.image_size = (image_size[0], image_size[1])
        self.out_dim = dim
        config = SiglipVisionConfig(
            hidden_size=dim,
            intermediate_size=4 * dim if mlp_dim is None else mlp_dim,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            patch_size=patch_size,
            image_size=patch_size,
        )
        self.siglip = SiglipVisionModel(config)
        # The library's table is for square images only.
        positions = nn.Embedding(grid[0] * grid[1], dim)
        nn.init.normal_(positions.weight, std=dim**-0.5)
        self.siglip.embeddings.position_embedding = positions
        if pretrained is not False:
            model = read_pretrained("SiglipVisionModel", pretrained)
            state = model.state_dict()
            side = model.config.image_size // model.config.patch_size
            state[POSITIONS] = resize_positions(
                state[POSITIONS][None], old_grid=(side, side), new_grid=grid, class_tokens=0
            )[0]
            load_exactly(self.siglip, state, pretrained)

    def freeze_pooling(self) -> None:
        """Freeze what only `pooled` comes from, for a method that does not read it."""
        self.siglip.head.requires_grad_(False)

    def forward(self, images: Images) -> Tokens:
        """Encode normalised RGB images of `image_size`."""
        check_image_size(images, self.image_size)
        embeddings = self.siglip.embeddings
        patches = rearrange(embeddings.patch_embedding(images), "batch dim h w -> batch (h w) dim")
        tokens = patches + embeddings.position_embedding.weight
        tokens = self.siglip.encoder(inputs_embeds=tokens).last_hidden_state
        local = self.siglip.post_layernorm(tokens)
        valid = local.new_ones(local.shape[:2], dtype=torch.bool)
        return Tokens(self.siglip.head(local), local, valid)


class SiglipTextEncoder(nn.Module):
    """SigLIP's text transformer, which reads a caption with its padding, as it was trained.

    Captions are padded here to all `max_positions` tokens, whatever the batch: nothing is masked,
    and `pooled` is the last position. `local` holds the caption's own positions after the
    projection. SigLIP 2 knows lower-case text only: its tokenizer must be `lowercase`.

    Args:
        pretrained: Hub name or `save_pretrained` folder of a SigLIP of these sizes, or False.
        vocab_size: Number of token ids.
        dim: Token width inside.
        depth: Number of transformer blocks.
        heads: Number of attention heads.
        mlp_dim: Hidden width of the MLPs, four times `dim` by default.
        max_positions: Length that captions are padded to, in tokens.
        out_dim: Width of the space shared with the images.
        pad_id: Id that captions are padded with; Gemma's vocabulary: 0.

    Attributes:
        space: Name of the space that both towers end in.

    Source:
        Tschannen et al., "SigLIP 2: Multilingual Vision-Language Encoders with Improved Semantic
        Understanding, Localization, and Dense Features", 2025, section 2.1.
    """

    space = "siglip"
    siglip: SiglipTextModel

    def __init__(
        self,
        pretrained: str | Literal[False] = False,
        vocab_size: int = 256000,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_dim: int | None = None,
        max_positions: int = 64,
        out_dim: int = 768,
        pad_id: int = 0,
    ) -> None:
        super().__init__()
        config = SiglipTextConfig(
            vocab_size=vocab_size,
            hidden_size=dim,
            intermediate_size=4 * dim if mlp_dim is None else mlp_dim,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            max_position_embeddings=max_positions,
            projection_size=out_dim,
            # Nothing here depends on these ids, whose range the library checks.
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=pad_id,
        )
        self.siglip = SiglipTextModel(config)
        if pretrained is not False:
            state = read_pretrained("SiglipTextModel", pretrained).state_dict()
            load_exactly(self.siglip, state, pretrained)
        self.max_positions = max_positions
        self.pad_id = pad_id
        self.out_dim = out_dim

    def forward(self, token_ids: TokenIds, valid: Valid) -> Tokens:
        """Encode captions of at most `max_positions` tokens."""
        check_length(token_ids, self.max_positions)
        length = token_ids.shape[1]
        padded = F.pad(
            token_ids.masked_fill(~valid, self.pad_id),
            (0, self.max_positions - length),
            value=self.pad_id,
        )
        hidden = self.siglip(padded).last_hidden_state
        tokens = self.siglip.head(hidden)
        return Tokens(tokens[:, -1], tokens[:, :length], valid)
