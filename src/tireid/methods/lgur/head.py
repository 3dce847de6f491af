"""LGUR after the encoders: dictionary, foreground weights, guidance and prototypes.

Shao et al., Learning Granularity-Unified Representations for Text-to-Image Person
Re-identification, ACM MM 2022 (arXiv 2207.07802).

| paper                            | here                                 |
| -------------------------------- | ------------------------------------ |
| shared dictionary, "DGA" / "MSD" | `LgurHead.rebuild`                   |
| foreground weights               | `LgurHead.foreground_weights`        |
| cross-modality guidance          | `LgurHead.guide`                     |
| prototypes, "PGU"                | `LgurHead.image_parts`, `text_parts` |
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tireid.methods.lgur.cross_decoder import CrossDecoder
from tireid.structures import TokenMaps, Valid

TokenFeatures = Float[Tensor, "batch length dim"]
Parts = Float[Tensor, "batch parts feature"]


class LgurFeatures(NamedTuple):
    """Prototype features of a training batch, not normalised.

    Attributes:
        image_guided: Image rebuilt from its own caption's tokens; None without guidance.
        image_dictionary: Image rebuilt from the dictionary; what is ranked.
        text_raw: Text as the encoder gave it, the guided branch's partner; None without guidance,
            and the very tensor of `text_dictionary` without a dictionary.
        text_dictionary: Text rebuilt from the dictionary; what is ranked.
    """

    image_guided: Float[Tensor, "batch parts dim"] | None
    image_dictionary: Float[Tensor, "batch parts dim"]
    text_raw: Float[Tensor, "batch parts dim"] | None
    text_dictionary: Float[Tensor, "batch parts dim"]


def _tokens(count: int, dim: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(1, count, dim))


class LgurHead(nn.Module):
    """LGUR after the encoders: dictionary, foreground weights, guidance, prototypes.

    Args:
        dim: Width of the image and text tokens.
        dictionary_size: Number of dictionary atoms shared by both modalities.
        dictionary_heads: Heads of the dictionary decoder; None: `dim / 64`, 6 at 384.
        dictionary_head_dim: Width of one of its heads.
        dictionary_hidden_dim: Width of its feed-forward network; None: `2 dim`, 768 at 384.
        num_prototypes: Number of query prototypes.
        prototype_depth: Layers of the prototype decoder.
        prototype_heads: Heads of the prototype decoder; None: `dim / 64`, 6 at 384.
        prototype_head_dim: Width of one of its heads. 512 is per head in the official code.
        prototype_hidden_dim: Width of its feed-forward network.
        feature_dim: Width of one prototype's output feature.
        prototype_order: `absorbed` (fast) or `plain`; the same result, see `CrossAttention`.
        use_dictionary: Whether tokens are rebuilt from the dictionary; if not, they stay as they
            are.
        use_guidance: Whether training has the branch of images rebuilt from their captions.
        use_foreground: Whether image tokens are weighted; if not, all weights are 1.
        pooling: `prototypes`, or their replacement in an ablation, one part: the `mean` or the
            `max` of the valid tokens.
        shared_prototypes: Whether images and texts have the same prototypes. Official: yes.

    Source:
        Defaults are the official code's. The paper's body was not available: where the two could
        differ in a number, it is the code's. Heads that follow the width, and what stands in the
        place of a part that is switched off, are ours.
    """

    dictionary: nn.Parameter | None
    prototypes: nn.Parameter | None
    text_prototypes: nn.Parameter | None
    dictionary_decoder: CrossDecoder | None
    prototype_decoder: CrossDecoder | None
    foreground: nn.Linear | None
    part_projection: nn.Parameter

    def __init__(
        self,
        dim: int = 384,
        *,
        dictionary_size: int = 400,
        dictionary_heads: int | None = 6,
        dictionary_head_dim: int = 64,
        dictionary_hidden_dim: int | None = 768,
        num_prototypes: int = 6,
        prototype_depth: int = 2,
        prototype_heads: int | None = 6,
        prototype_head_dim: int = 512,
        prototype_hidden_dim: int = 512,
        feature_dim: int = 512,
        prototype_order: str = "absorbed",
        use_dictionary: bool = True,
        use_guidance: bool = True,
        use_foreground: bool = True,
        pooling: str = "prototypes",
        shared_prototypes: bool = True,
    ) -> None:
        super().__init__()
        if pooling not in ("prototypes", "mean", "max"):
            raise ValueError(f"pooling: expected prototypes, mean or max, got {pooling!r}")
        heads = max(1, dim // 64)
        has_prototypes = pooling == "prototypes"
        self.pooling = pooling
        self.use_guidance = use_guidance
        self.num_parts = num_prototypes if has_prototypes else 1
        self.feature_dim = feature_dim
        self.dictionary = _tokens(dictionary_size, dim) if use_dictionary else None
        self.prototypes = _tokens(num_prototypes, dim) if has_prototypes else None
        self.dictionary_decoder = self.prototype_decoder = None
        if use_dictionary or use_guidance:
            self.dictionary_decoder = CrossDecoder(
                dim,
                depth=1,
                heads=heads if dictionary_heads is None else dictionary_heads,
                head_dim=dictionary_head_dim,
                hidden_dim=2 * dim if dictionary_hidden_dim is None else dictionary_hidden_dim,
                order="plain",
            )
        if has_prototypes:
            self.prototype_decoder = CrossDecoder(
                dim,
                depth=prototype_depth,
                heads=heads if prototype_heads is None else prototype_heads,
                head_dim=prototype_head_dim,
                hidden_dim=prototype_hidden_dim,
                order=prototype_order,
            )
        self.foreground = nn.Linear(dim, 1) if use_foreground else None
        # Official code: one bias-free 1x1 convolution a prototype, Kaiming-normal by fan-out.
        # Here: the same maps as one tensor, applied together.
        self.part_projection = nn.Parameter(
            torch.randn(self.num_parts, feature_dim, dim) * math.sqrt(2 / feature_dim)
        )
        separate = has_prototypes and not shared_prototypes
        self.text_prototypes = _tokens(num_prototypes, dim) if separate else None

    def foreground_weights(self, image_tokens: TokenFeatures) -> Float[Tensor, "batch length 1"]:
        """Return the foreground weight of each image token, in (0, 1); 1 where switched off.

        It has no supervision of its own.
        """
        if self.foreground is None:
            return image_tokens.new_ones(*image_tokens.shape[:2], 1)
        return self.foreground(image_tokens).sigmoid()

    def rebuild(self, tokens: TokenFeatures) -> TokenFeatures:
        """Rebuild tokens of either modality from the shared dictionary, if there is one.

        Official code keeps the residual around the query: the result is the token plus attended
        atoms, not a mix of atoms alone.
        """
        if self.dictionary_decoder is None or self.dictionary is None:
            return tokens
        return self.dictionary_decoder(tokens, self.dictionary)

    def guide(
        self,
        image_tokens: TokenFeatures,
        text_tokens: Float[Tensor, "batch text_length dim"],
        text_valid: Bool[Tensor, "batch text_length"],
    ) -> TokenFeatures:
        """Rebuild image tokens from their caption's tokens, by the dictionary decoder's weights.

        Raises:
            ValueError: If the head was built without guidance.
        """
        if self.dictionary_decoder is None or not self.use_guidance:
            raise ValueError("guide: expected a head with use_guidance=True")
        return self.dictionary_decoder(image_tokens, text_tokens, text_valid)

    def image_parts(self, tokens: TokenFeatures) -> Parts:
        """Collect image tokens into one feature a part."""
        return self._parts(tokens, None, self.prototypes)

    def text_parts(self, tokens: TokenFeatures, valid: Valid) -> Parts:
        """Collect text tokens into one feature a part."""
        prototypes = self.prototypes if self.text_prototypes is None else self.text_prototypes
        return self._parts(tokens, valid, prototypes)

    def _parts(self, tokens: Tensor, valid: Tensor | None, prototypes: Tensor | None) -> Tensor:
        if self.prototype_decoder is None or prototypes is None:
            parts = _pool(tokens, valid, self.pooling).unsqueeze(1)
        else:
            parts = self.prototype_decoder(prototypes, tokens, valid)
        return torch.einsum("bkd,kfd->bkf", parts, self.part_projection)

    def encode_image(self, image_tokens: TokenFeatures) -> Parts:
        """Return the dictionary branch's image features, the ones ranked."""
        return self.image_parts(self.foreground_weights(image_tokens) * self.rebuild(image_tokens))

    def encode_text(self, text_tokens: TokenFeatures, text_valid: Valid) -> Parts:
        """Return the dictionary branch's text features, the ones ranked."""
        return self.text_parts(self.rebuild(text_tokens), text_valid)

    def explain_image(self, image_tokens: TokenFeatures) -> TokenMaps:
        """Return how `encode_image` weighs the tokens, computed again."""
        foreground = self.foreground_weights(image_tokens)
        weighted = foreground * self.rebuild(image_tokens)
        return TokenMaps(
            valid=torch.ones_like(image_tokens[..., 0], dtype=torch.bool),
            parts=self._part_weights(weighted, None, self.prototypes),
            foreground=None if self.foreground is None else foreground[..., 0],
            atoms=self._atom_weights(image_tokens),
        )

    def explain_text(self, text_tokens: TokenFeatures, text_valid: Valid) -> TokenMaps:
        """Return how `encode_text` weighs the tokens, computed again."""
        prototypes = self.prototypes if self.text_prototypes is None else self.text_prototypes
        atoms = self._atom_weights(text_tokens)
        return TokenMaps(
            valid=text_valid,
            parts=self._part_weights(self.rebuild(text_tokens), text_valid, prototypes),
            atoms=None if atoms is None else atoms * text_valid[:, None, :, None],
        )

    def _part_weights(
        self, tokens: Tensor, valid: Tensor | None, prototypes: Tensor | None
    ) -> Tensor | None:
        if self.prototype_decoder is None or prototypes is None:
            return None
        return self.prototype_decoder.weights(prototypes, tokens, valid)

    def _atom_weights(self, tokens: Tensor) -> Tensor | None:
        if self.dictionary_decoder is None or self.dictionary is None:
            return None
        return self.dictionary_decoder.weights(tokens, self.dictionary)[:, 0]  # its only layer

    def forward(
        self,
        image_tokens: TokenFeatures,
        text_tokens: Float[Tensor, "batch text_length dim"],
        text_valid: Bool[Tensor, "batch text_length"],
    ) -> LgurFeatures:
        """Compute both branches of a training batch; row i of both modalities is one pair.

        Nothing is detached: gradients reach both encoders through both branches.
        """
        if not self.use_guidance:
            image, text = self.encode_image(image_tokens), self.encode_text(text_tokens, text_valid)
            return LgurFeatures(None, image, None, text)
        weights = self.foreground_weights(image_tokens)
        guided = weights * self.guide(image_tokens, text_tokens, text_valid)
        rebuilt = weights * self.rebuild(image_tokens)
        image_guided, image_dictionary = self.image_parts(torch.cat([guided, rebuilt])).chunk(2)
        if self.dictionary is None:
            text = self.text_parts(text_tokens, text_valid)
            return LgurFeatures(image_guided, image_dictionary, text, text)
        texts = torch.cat([text_tokens, self.rebuild(text_tokens)])
        text_raw, text_dictionary = self.text_parts(texts, text_valid.repeat(2, 1)).chunk(2)
        return LgurFeatures(image_guided, image_dictionary, text_raw, text_dictionary)


def _pool(tokens: Tensor, valid: Tensor | None, kind: str) -> Tensor:
    """Return the mean or the maximum over the valid tokens."""
    if valid is None:
        return tokens.mean(dim=1) if kind == "mean" else tokens.amax(dim=1)
    if kind == "max":
        return tokens.masked_fill(~valid[..., None], float("-inf")).amax(dim=1)
    return (tokens * valid[..., None]).sum(dim=1) / valid.sum(dim=1, keepdim=True)
