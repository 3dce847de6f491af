"""IRRA's implicit relation reasoning: masked words are predicted from image and caption.

Jiang & Ye, Cross-Modal Implicit Relation Reasoning and Aligning for Text-to-Image Person Retrieval,
CVPR 2023 (arXiv 2303.12501). Sizes and initial spreads are the official code's (anosorae/IRRA,
cfc2378, `model/build.py` and `model/clip_model.py`).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tireid.structures import MaskedWords

TextTokens = Float[Tensor, "batch length dim"]
ImageTokens = Float[Tensor, "batch image_length dim"]
Valid = Bool[Tensor, "batch length"] | None


class QuickGelu(nn.Module):
    """CLIP's approximation of GELU."""

    def forward(self, values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return x sigmoid(1.702 x)."""
        return values * torch.sigmoid(1.702 * values)


class Block(nn.Module):
    """CLIP's pre-norm block: self-attention and an MLP four times as wide, each with its residual.

    Args:
        dim: Width of the tokens.
        heads: Number of attention heads.
        depth: Number of blocks in the stack, which narrows the initial spread.
    """

    def __init__(self, dim: int, heads: int, depth: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = attention(dim, heads, depth)
        self.mlp_norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, 4 * dim)
        self.activation = QuickGelu()
        self.contract = nn.Linear(4 * dim, dim)
        nn.init.normal_(self.expand.weight, std=(2 * dim) ** -0.5)
        nn.init.normal_(self.contract.weight, std=dim**-0.5 * (2 * depth) ** -0.5)

    def forward(self, tokens: TextTokens, padding: Valid) -> TextTokens:
        """Return the tokens after the block.

        Args:
            tokens: One sequence a row.
            padding: True where a token may not be attended to; None: all may.
        """
        normed = self.attention_norm(tokens)
        attended, _ = self.attention(
            normed, normed, normed, key_padding_mask=padding, need_weights=False
        )
        tokens = tokens + attended
        return tokens + self.contract(self.activation(self.expand(self.mlp_norm(tokens))))


def attention(dim: int, heads: int, depth: int) -> nn.MultiheadAttention:
    """Return an attention with IRRA's initial spreads."""
    module = nn.MultiheadAttention(dim, heads, batch_first=True)
    nn.init.normal_(module.in_proj_weight, std=dim**-0.5)
    nn.init.normal_(module.out_proj.weight, std=dim**-0.5 * (2 * depth) ** -0.5)
    return module


class WordHead(nn.Module):
    """Scores every word of the vocabulary at a position.

    Args:
        dim: Width of the tokens.
        num_ids: Number of words.
        depth: Number of blocks before it, which narrows the initial spread.
    """

    def __init__(self, dim: int, num_ids: int, depth: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)
        self.activation = QuickGelu()
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, num_ids)
        nn.init.normal_(self.dense.weight, std=(2 * dim) ** -0.5)
        nn.init.normal_(self.out.weight, std=dim**-0.5 * (2 * depth) ** -0.5)

    def forward(self, tokens: Float[Tensor, "masked dim"]) -> Float[Tensor, "masked words"]:
        """Return the scores before the softmax."""
        return self.out(self.norm(self.activation(self.dense(tokens))))


class RelationReasoning(nn.Module):
    """Cross-attention of a masked caption to its image, self-attention blocks, and a word head.

    Args:
        dim: Width of the tokens of both modalities.
        num_ids: Number of words to choose from.
        heads: Number of attention heads; None: `dim / 64`, 8 at 512.
        depth: Number of blocks. Official: 4.

    Source:
        Official code: one norm for keys and values, no residual around the cross-attention, no
        positions, padding attended to by the blocks, words scored at every position. Here: only
        where they are asked for.
    """

    def __init__(self, dim: int, num_ids: int, *, heads: int | None = None, depth: int = 4) -> None:
        super().__init__()
        heads = max(1, dim // 64) if heads is None else heads
        self.text_norm = nn.LayerNorm(dim)
        self.image_norm = nn.LayerNorm(dim)
        self.cross_attention = attention(dim, heads, depth)
        self.blocks = nn.ModuleList(Block(dim, heads, depth) for _ in range(depth))
        self.final_norm = nn.LayerNorm(dim)
        self.head = WordHead(dim, num_ids, depth)

    @property
    def norms(self) -> list[nn.Module]:
        """The norms around the attention, which the official code gives the lowest rate."""
        return [self.text_norm, self.image_norm, self.final_norm]

    def forward(
        self, texts: TextTokens, images: ImageTokens, masked: MaskedWords, valid: Valid = None
    ) -> Float[Tensor, "masked words"]:
        """Return the scores of the words at the masked places.

        Args:
            texts: Tokens of masked captions.
            images: Tokens of their images.
            masked: The places.
            valid: True where a text token may be attended to; None: all may, as officially.
        """
        keys = self.image_norm(images)
        tokens, _ = self.cross_attention(self.text_norm(texts), keys, keys, need_weights=False)
        padding = None if valid is None else ~valid
        for block in self.blocks:
            tokens = block(tokens, padding)
        places = masked.rows * tokens.shape[1] + masked.positions
        return self.head(self.final_norm(tokens.flatten(0, 1).index_select(0, places)))
