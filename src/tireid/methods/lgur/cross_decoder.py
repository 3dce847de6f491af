"""LGUR's cross-decoder: learnt or token queries attend to a sequence, with no self-attention."""

import math

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

Queries = Float[Tensor, "batch query dim"]
Keys = Float[Tensor, "key_batch key dim"]
KeysValid = Bool[Tensor, "key_batch key"] | None
Attended = Float[Tensor, "out_batch query dim"]


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
        attended = _attended(query, key, value, mask, 1 / math.sqrt(self.head_dim))
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
        # one head, as wide as the tokens
        attended = _attended(query, keys, keys, mask, 1 / math.sqrt(self.head_dim))
        attended = rearrange(attended, "b 1 (n h) d -> h (b n) d", h=self.heads) @ to_value.mT
        return self.to_out(rearrange(attended, "h (b n) e -> b n (h e)", n=count))


def _attended(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    if query.device.type != "cpu" or query.dtype not in (torch.bfloat16, torch.float16):
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scale)
    # In half precision on a CPU, PyTorch's fused attention takes twice as long as its products.
    with torch.autocast("cpu", enabled=False):
        keys, values = keys.to(query.dtype), values.to(query.dtype)
        scores = (query * scale) @ keys.mT
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return scores.softmax(dim=-1) @ values


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
