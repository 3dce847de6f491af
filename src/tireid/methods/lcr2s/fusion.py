"""LCR2S's fusion of an embedding with its support set, and checks that its methods share.

Yan et al., Learning Comprehensive Representations with Richer Self for Text-to-Image Person
Re-identification, ACM MM 2023 (arXiv 2310.11210): multi-head attentional fusion, "MHAF".
"""

import math
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tireid.methods.base import RetrievalModule, TrainingTerms
from tireid.structures import Features, PairBatch

Support = Float[Tensor, "batch slots dim"]
Filled = Bool[Tensor, "batch slots"]
ATTENTION = ("anchor_query", "self_attention")
KINDS = (*ATTENTION, "self_attentive", "mean")


class SupportFusion(nn.Module):
    """An anchor's embedding enriched by those of its support set, whatever the set's order.

    Empty slots get exactly no attention; an anchor without support attends to itself.

    Args:
        dim: Width of the embeddings.
        kind: "anchor_query": the anchor asks the set, itself included. "self_attention": all ask
            all, then `readout`. "self_attentive": Lin et al.'s pooling, W2 tanh(W1 x) weighs the
            members, once a head, and the heads are averaged. "mean": the control without weights.
        heads: Number of heads; unused by "mean". Divides the width in the attention kinds.
        residual: Whether the anchor is added to what was attended; never in "mean", which holds it.
        norm: LayerNorm of the attention kinds: "none", "pre" (of what enters a sub-layer) or "post"
            (of what leaves it).
        ffn: Whether a GELU network of four times the width follows the attention.
        readout: Of "self_attention": the "anchor"'s place, or the "mean" of all filled ones.
        parts: Number of equal parts that the embedding is the concatenation of; each is fused by
            itself, with the same weights (LGUR's prototypes).

    Raises:
        ValueError: If a setting is unknown, or has no meaning with others.

    Source:
        The paper names the block and its purpose; its equations were not available. Defaults are
        ours: the plainest reading, no closing LayerNorm, so that a plain encoder can match it.
    """

    mixer: nn.Module

    def __init__(
        self,
        dim: int,
        *,
        kind: str = "anchor_query",
        heads: int = 8,
        residual: bool = True,
        norm: str = "none",
        ffn: bool = False,
        readout: str = "anchor",
        parts: int = 1,
    ) -> None:
        super().__init__()
        _check("kind", kind, KINDS)
        _check("norm", norm, ("none", "pre", "post"))
        _check("readout", readout, ("anchor", "mean"))
        if kind not in ATTENTION and (norm != "none" or ffn):
            raise ValueError(
                f"norm, ffn: expected none and false with kind {kind!r}, which has none"
            )
        if kind != "self_attention" and readout != "anchor":
            raise ValueError(f"readout: expected 'anchor' with kind {kind!r}, got {readout!r}")
        if not is_count(parts) or dim % parts:
            raise ValueError(f"parts: expected a divisor of the width {dim}, got {parts!r}")
        if not is_count(heads):
            raise ValueError(f"heads: expected an integer > 0, got {heads!r}")
        width = dim // parts
        self.parts = parts
        if kind in ATTENTION:
            attending = "all" if kind == "self_attention" else "anchor"
            self.mixer = _Attention(width, heads, residual, norm, ffn, attending, readout)
        elif kind == "self_attentive":
            self.mixer = _SelfAttentive(width, heads, residual)
        else:
            self.mixer = _Mean()

    def forward(self, anchor: Features, support: Support, valid: Filled) -> Features:
        """Return the enriched embeddings.

        Args:
            anchor: Not normalised.
            support: Not normalised; there may be no slots. What stands in empty ones is ignored.
            valid: True = a filled slot.
        """
        fused, _ = self._mix(anchor, support, valid)
        return rearrange(fused, "(batch parts) dim -> batch (parts dim)", parts=self.parts)

    def attention(
        self, anchor: Features, support: Support, valid: Filled
    ) -> Float[Tensor, "batch heads members"]:
        """Return the weight of each member, the anchor first; they sum to 1.

        One row a head, in each part; those of "self_attention" are what the readout's place pays,
        or the mean over the filled places.
        """
        _, weights = self._mix(anchor, support, valid)
        return rearrange(weights, "(batch parts) h s -> batch (parts h) s", parts=self.parts)

    def _mix(self, anchor: Tensor, support: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        support = support.masked_fill(~valid[..., None], 0.0)  # not even NaN may pass
        members = torch.cat([anchor[:, None], support], dim=1)
        members = rearrange(members, "b s (parts d) -> (b parts) s d", parts=self.parts)
        filled = torch.cat([valid.new_ones(len(valid), 1), valid], dim=1)
        return self.mixer(members, filled.repeat_interleave(self.parts, dim=0))


class _Attention(nn.Module):
    """Multi-head attention without biases, by the anchor or by all members of the set."""

    def __init__(
        self,
        dim: int,
        heads: int,
        residual: bool,
        norm: str,
        ffn: bool,
        attending: str,
        readout: str,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads: expected a divisor of the width {dim}, got {heads}")

        def norm_if(place: str) -> nn.Module:
            return nn.LayerNorm(dim) if norm == place else nn.Identity()

        self.heads = heads
        self.residual = residual
        self.attending = attending
        self.readout = readout
        self.to_query = nn.Linear(dim, dim, bias=False)
        self.to_key = nn.Linear(dim, dim, bias=False)
        self.to_value = nn.Linear(dim, dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)
        self.norm_before = norm_if("pre")
        self.norm_after = norm_if("post")
        self.ffn = None
        if ffn:
            hidden = 4 * dim
            self.ffn = nn.Sequential(
                norm_if("pre"), nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)
            )
            self.norm_end = norm_if("post")

    def forward(self, members: Tensor, filled: Tensor) -> tuple[Tensor, Tensor]:
        asking = members[:, :1] if self.attending == "anchor" else members
        normed = self.norm_before(members)

        def split(projected: Tensor) -> Tensor:
            return rearrange(projected, "b s (h d) -> b h s d", h=self.heads)

        # Contiguous: on a slice, a frozen layer in bfloat16 takes a path 400 times slower on a CPU.
        query = split(self.to_query(normed[:, : asking.shape[1]].contiguous()))
        key, value = split(self.to_key(normed)), split(self.to_value(normed))
        scores = query @ key.mT / math.sqrt(key.shape[-1])  # (batch, heads, asking, members)
        scores = scores.masked_fill(~filled[:, None, None], float("-inf"))
        weights = scores.softmax(dim=-1)
        out = self.to_out(rearrange(weights @ value, "b h s d -> b s (h d)"))
        out = self.norm_after(asking + out if self.residual else out)
        if self.ffn is not None:
            out = self.norm_end(out + self.ffn(out))
        if self.readout == "anchor":
            return out[:, 0], weights[:, :, 0]
        share = _uniform(filled, out.dtype)  # (batch, members)
        return (share[:, None] @ out)[:, 0], torch.einsum("bq,bhqs->bhs", share, weights)


class _SelfAttentive(nn.Module):
    """Lin et al., "A Structured Self-Attentive Sentence Embedding", ICLR 2017, heads averaged."""

    def __init__(self, dim: int, heads: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.score = nn.Sequential(
            nn.Linear(dim, dim, bias=False), nn.Tanh(), nn.Linear(dim, heads, bias=False)
        )

    def forward(self, members: Tensor, filled: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.score(members).mT  # (batch, heads, members)
        weights = scores.masked_fill(~filled[:, None], float("-inf")).softmax(dim=-1)
        out = (weights @ members).mean(dim=1)
        return members[:, 0] + out if self.residual else out, weights


class _Mean(nn.Module):
    def forward(self, members: Tensor, filled: Tensor) -> tuple[Tensor, Tensor]:
        weights = _uniform(filled, members.dtype)[:, None]
        return (weights @ members)[:, 0], weights


def _uniform(filled: Tensor, dtype: torch.dtype) -> Tensor:
    return filled.to(dtype) / filled.sum(dim=1, keepdim=True)


def dual_terms(dual: RetrievalModule, batch: PairBatch, step: int, weight: float) -> TrainingTerms:
    """Return a dual encoder's features and its own terms, weighted; with weight 0 no terms."""
    if not weight:
        texts = dual.text_features(batch.token_ids, batch.valid, batch.words)
        return TrainingTerms({}, dual.image_features(batch.images), texts)
    taught = dual.training_terms(batch, step)
    weighted = {name: weight * term for name, term in taught.terms.items()}
    return taught._replace(terms=weighted)


def freeze_heads(dual: RetrievalModule) -> None:
    """Freeze what only a dual encoder's own terms would train, its identity heads."""
    for name, weight in dual.named_parameters():
        if name.startswith(dual.training_only):
            weight.requires_grad_(False)


def is_count(value: Any, least: int = 1) -> bool:
    """Return whether a setting is an integer of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_range(most: float = math.inf, **settings: Any) -> None:
    """Check that settings are numbers from 0 to `most`.

    Raises:
        ValueError: Names the first that is not.
    """
    for name, value in settings.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and 0 <= value <= most and value < math.inf):
            expected = "a number >= 0" if most == math.inf else f"a number from 0 to {most:g}"
            raise ValueError(f"{name}: expected {expected}, got {value!r}")


def check_weights(trained: str, **weights: Any) -> None:
    """Check that the weights of losses are numbers of at least 0, and one of them above.

    Raises:
        ValueError: If one is not, or there is nothing to train with.
    """
    check_range(**weights)
    if not any(weights.values()):
        raise ValueError(
            f"{', '.join(weights)}: expected one above 0, got none; there is nothing to train "
            f"{trained} with"
        )


def _check(name: str, value: str, expected: tuple[str, ...]) -> None:
    if value not in expected:
        raise ValueError(f"{name}: expected one of {', '.join(expected)}, got {value!r}")
