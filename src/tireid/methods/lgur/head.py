"""The blocks of LGUR after the encoders, as plain modules: cross-decoder and `LgurHead`.

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
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from tireid.structures import TokenMaps, Valid

Queries = Float[Tensor, "batch query dim"]
Keys = Float[Tensor, "key_batch key dim"]
KeysValid = Bool[Tensor, "key_batch key"] | None
Attended = Float[Tensor, "out_batch query dim"]
TokenFeatures = Float[Tensor, "batch length dim"]
Parts = Float[Tensor, "batch parts feature"]


class CrossAttention(nn.Module):
    """Multi-head attention of queries to another sequence, normalised by one shared LayerNorm.

    Both orders of multiplication give the same result. `plain` projects every key and value
    token to `heads * head_dim`. `absorbed` applies the key projection to the queries instead, and
    the value projection to what they collected, so that tokens are attended to as they are:
    cheaper where there are fewer queries than tokens.

    Args:
        dim: Width of queries and of keys.
        heads: Number of heads.
        head_dim: Width of one head.
        order: Order of multiplication, `absorbed` or `plain`.

    Source:
        Official code: one LayerNorm serves queries and keys; no bias in the projections but for
        the output's.
    """

    norm: nn.LayerNorm
    to_query: nn.Linear
    to_key: nn.Linear
    to_value: nn.Linear
    to_out: nn.Linear

    def __init__(self, dim: int, heads: int, head_dim: int, *, order: str) -> None:
        super().__init__()
        if order not in ("absorbed", "plain"):
            raise ValueError(f"order: expected 'absorbed' or 'plain', got {order!r}")
        self.heads = heads
        self.head_dim = head_dim
        self.order = order
        self.norm = nn.LayerNorm(dim)
        self.to_query = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_key = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_value = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_out = nn.Linear(heads * head_dim, dim)

    def forward(self, queries: Queries, keys: Keys, valid: KeysValid = None) -> Attended:
        """Attend to `keys`; without the residual.

        Args:
            queries: Not normalised. A batch of 1 is shared by all keys.
            keys: Not normalised. A batch of 1 is shared by all queries and projected once.
            valid: True = may be attended to; None = all may. A row needs at least one.
        """
        queries = self.norm(queries)
        keys = self.norm(keys)
        if self.order == "absorbed":
            return self._absorbed(queries, keys, valid)
        return self._plain(queries, keys, valid)

    def weights(
        self, queries: Queries, keys: Keys, valid: KeysValid = None
    ) -> Float[Tensor, "out_batch heads query key"]:
        """Return the attention of each query to each key, which `forward` does not keep.

        Args:
            queries: As in `forward`.
            keys: As in `forward`.
            valid: As in `forward`; other keys get exactly 0.
        """
        query = rearrange(self.to_query(self.norm(queries)), "b n (h e) -> b h n e", h=self.heads)
        key = rearrange(self.to_key(self.norm(keys)), "b n (h e) -> b h n e", h=self.heads)
        scores = query @ key.mT / math.sqrt(self.head_dim)
        if valid is not None:
            scores = scores.masked_fill(~valid[:, None, None], float("-inf"))
        return scores.softmax(dim=-1)

    def _plain(self, queries: Tensor, keys: Tensor, valid: Tensor | None) -> Tensor:
        batch = queries.shape[0]
        shared = keys.shape[0] == 1 and valid is None
        if shared:  # one long row of queries: the keys are neither copied nor re-read per sample
            queries = queries.flatten(0, 1).unsqueeze(0)
        else:
            queries = queries.expand(keys.shape[0], -1, -1)
        query = rearrange(self.to_query(queries), "b n (h d) -> b h n d", h=self.heads)
        key = rearrange(self.to_key(keys), "b n (h d) -> b h n d", h=self.heads)
        value = rearrange(self.to_value(keys), "b n (h d) -> b h n d", h=self.heads)
        mask = None if valid is None else valid[:, None, None, :]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out = self.to_out(rearrange(attended, "b h n d -> b n (h d)"))
        return out.view(batch, -1, out.shape[-1]) if shared else out

    def _absorbed(self, queries: Tensor, keys: Tensor, valid: Tensor | None) -> Tensor:
        to_key = rearrange(self.to_key.weight, "(h e) d -> h e d", h=self.heads)
        to_value = rearrange(self.to_value.weight, "(h e) d -> h e d", h=self.heads)
        count = queries.shape[1]
        query = rearrange(self.to_query(queries), "b n (h e) -> h (b n) e", h=self.heads) @ to_key
        query = rearrange(query, "h (b n) d -> b 1 (n h) d", n=count)
        batch = max(len(query), len(keys))
        query = query.expand(batch, -1, -1, -1)
        keys = keys.expand(batch, -1, -1).unsqueeze(1)
        mask = None if valid is None else valid[:, None, None, :]
        attended = F.scaled_dot_product_attention(  # one head, as wide as the tokens
            query, keys, keys, attn_mask=mask, scale=1 / math.sqrt(self.head_dim)
        )
        attended = rearrange(attended, "b 1 (n h) d -> h (b n) d", h=self.heads) @ to_value.mT
        return self.to_out(rearrange(attended, "h (b n) e -> b n (h e)", n=count))


class CrossDecoderLayer(nn.Module):
    """Cross-attention and a ReLU feed-forward network, each with its residual around the query."""

    attention: CrossAttention
    feed_forward: nn.Sequential

    def __init__(self, dim: int, heads: int, head_dim: int, hidden_dim: int, *, order: str) -> None:
        super().__init__()
        self.attention = CrossAttention(dim, heads, head_dim, order=order)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, dim)
        )

    def forward(self, queries: Queries, keys: Keys, valid: KeysValid = None) -> Attended:
        """Rebuild the queries from the keys; a query batch of 1 is broadcast over the keys'."""
        queries = queries + self.attention(queries, keys, valid)
        return queries + self.feed_forward(queries)


class CrossDecoder(nn.Module):
    """A stack of cross-decoder layers over the same keys; no self-attention, no final norm.

    Args:
        dim: Width of queries and of keys.
        depth: Number of layers.
        heads: Number of heads.
        head_dim: Width of one head.
        hidden_dim: Width of the feed-forward network.
        order: Order of multiplication in the attention; see `CrossAttention`.

    Source:
        Official code (`TXTDecoder`, `TXTDecoder_2`): pre-norm, all dropouts 0, ReLU.
    """

    layers: nn.ModuleList

    def __init__(
        self, dim: int, *, depth: int, heads: int, head_dim: int, hidden_dim: int, order: str
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            CrossDecoderLayer(dim, heads, head_dim, hidden_dim, order=order) for _ in range(depth)
        )

    def forward(self, queries: Queries, keys: Keys, valid: KeysValid = None) -> Attended:
        """Pass the queries through all layers; one of the two batches may be 1."""
        for layer in self.layers:
            queries = layer(queries, keys, valid)
        return queries

    def weights(
        self, queries: Queries, keys: Keys, valid: KeysValid = None
    ) -> Float[Tensor, "out_batch layers heads query key"]:
        """Return the attention of each query to each key in every layer, computed again."""
        weights: list[Tensor] = []
        for layer in self.layers:
            weights.append(layer.attention.weights(queries, keys, valid))  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue] -- nn.ModuleList's members
            queries = layer(queries, keys, valid)
        return torch.stack(weights, dim=1)


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
