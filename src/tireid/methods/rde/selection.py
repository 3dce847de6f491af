"""Token selection: an embedding from the tokens that the global feature attends to most."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tireid.encoders.textcnn import MaskedBatchNorm
from tireid.structures import Valid

NORMS = ("frozen", "batch")


class TokenEmbedding(nn.Module):
    """Map chosen tokens by an MLP with a linear shortcut, and take the maximum of each channel.

    Args:
        dim: Width of the tokens.
        out_dim: Width of the embedding. Official: 1024.
        norm: `frozen`, the batch norm uses its running statistics in training too, which are those
            it begins with: an affine layer. The official code trained so until 2024-10-23, so most
            likely the paper's numbers come from it. `batch`, the statistics of the batch, as the
            code does now; it counts padding among them, which is left out here.

    Raises:
        ValueError: If there is no such norm.
    """

    def __init__(self, dim: int, out_dim: int, norm: str) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm: expected {' or '.join(NORMS)}, got {norm!r}")
        self.frozen_norm = norm == "frozen"
        self.hidden = nn.Linear(dim, dim)
        self.norm = MaskedBatchNorm(dim)
        self.output = nn.Linear(dim, out_dim)
        self.shortcut = nn.Linear(dim, out_dim)
        self.train(self.training)

    def train(self, mode: bool = True) -> "TokenEmbedding":
        """Set the mode; a frozen norm always works as in evaluation."""
        super().train(mode)
        if self.frozen_norm:
            self.norm.eval()
        return self

    def forward(
        self, tokens: Float[Tensor, "batch chosen dim"], valid: Bool[Tensor, "batch chosen"]
    ) -> Float[Tensor, "batch out_dim"]:
        """Embed the tokens of each sample, at least one of which is valid."""
        return self._mapped(tokens, valid).amax(dim=1)

    def _mapped(self, tokens: Tensor, valid: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True)
        tokens = tokens / (length + 1e-8)
        hidden = self.norm(self.hidden(tokens).mT, valid[:, None]).mT.relu()
        mapped = self.output(hidden) + self.shortcut(tokens)
        return mapped.masked_fill(~valid[..., None], -torch.inf)

    def contributions(
        self,
        tokens: Float[Tensor, "batch chosen dim"],
        valid: Bool[Tensor, "batch chosen"],
        others: Float[Tensor, "batch out_dim"],
    ) -> Float[Tensor, "batch chosen"]:
        """Return the terms of `others`' dot product with the unit-norm embedding, by token.

        Each channel of the embedding is that of one token, so they add up to the whole.
        """
        embedding, winners = self._mapped(tokens, valid).max(dim=1)
        terms = embedding * others / embedding.norm(dim=1, keepdim=True)
        return terms.new_zeros(valid.shape).scatter_add(1, winners, terms)


def choose(
    scores: Float[Tensor, "batch length"], candidates: Valid, count: int
) -> tuple[Int[Tensor, "batch chosen"], Bool[Tensor, "batch chosen"]]:
    """Return the places of the tokens of the highest scores, in their order, and which are real.

    Args:
        scores: Of each token.
        candidates: Tokens that may be chosen; at least one of each sample.
        count: How many to choose of a sample that has as many.
    """
    ranked = scores.masked_fill(~candidates, -torch.inf)
    places = ranked.topk(min(count, scores.shape[1]), dim=1).indices
    return places, candidates.gather(1, places)


def words_between(valid: Valid) -> Valid:
    """Return which tokens are words: not the first token, the start, nor the last, the end.

    A caption without words keeps its end token. The official code gives NaN for it and for all
    later captions of its batch.
    """
    place = torch.arange(valid.shape[1], device=valid.device)
    last = valid.sum(dim=1, keepdim=True) - 1
    words = (place > 0) & (place < last)
    return torch.where(words.any(dim=1, keepdim=True), words, place == last.clamp(min=0))
