"""Word embeddings, and the bi-directional LSTM over token features that LGUR uses."""

from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tireid.structures import Features, TokenIds, Tokens, Valid, Words


class WordEmbedding(nn.Module):
    """One learned vector for each word piece, and their mean: a bag of words.

    Args:
        vocab_size: Number of token ids.
        dim: Length of a vector; also `out_dim`.
    """

    def __init__(self, vocab_size: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, dim)
        self.out_dim = dim

    def forward(self, token_ids: TokenIds, valid: Valid) -> Tokens:
        """Look the tokens up; rows of padding are zero."""
        local = self.table(token_ids) * valid[..., None]
        return Tokens(_masked_mean(local, valid), local, valid)


class BiLstmEncoder(nn.Module):
    """The mean of both directions of a one-layer LSTM, over the token features of `embedding`.

    Every valid position takes part, special tokens like [CLS] and [SEP] included. Rows of `local`
    at padding are zero. Padding must follow the words.

    Args:
        embedding: A text encoder, frozen or not; the LSTM reads its `local`.
        hidden: Width of each direction; also `out_dim`.
        bias: Whether the gates have biases. Without them a batch takes half as long (see forward).
        dropout: Probability of dropping an input feature of the LSTM in training.
        pool: How `pooled` is made from the valid positions.

    Source:
        LGUR: BERT features of 768, hidden 384, no biases. Its official code builds a dropout of 0.3
        and never applies it, so the default here is none.
    """

    lstm: nn.LSTM

    def __init__(
        self,
        embedding: nn.Module,
        hidden: int = 384,
        bias: bool = False,
        dropout: float = 0.0,
        pool: Literal["max", "mean"] = "max",
    ) -> None:
        super().__init__()
        self.embedding = embedding
        width: int = embedding.out_dim  # pyright: ignore[reportAssignmentType] (nn.Module's getattr)
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(width, hidden, bias=bias, batch_first=True, bidirectional=True)
        self.pool = pool
        self.out_dim = hidden

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the embedding alone; arguments are those of `torch.compile`.

        `torch.compile` leaves an LSTM out, and would otherwise unroll it word by word, anew for
        each length of captions. cuDNN's is one operation as it is.
        """
        self.embedding.compile(*args, **kwargs)

    def forward(self, token_ids: TokenIds, valid: Valid, words: Words = None) -> Tokens:
        """Encode captions of any lengths, in any order.

        Args:
            token_ids: Padded captions.
            valid: True = real token.
            words: The token features `embedding(token_ids, valid).local`, if they were computed
                before; rows at padding do not matter.
        """
        features = self.embedding(token_ids, valid).local if words is None else words
        features = self.dropout(features)
        states = self._packed(features, valid) if self.lstm.bias else self._padded(features, valid)
        forward, backward = states.chunk(2, dim=-1)
        local = (forward + backward) / 2 * valid[..., None]
        if self.pool == "mean":
            return Tokens(_masked_mean(local, valid), local, valid)
        pooled = local.masked_fill(~valid[..., None], float("-inf")).amax(dim=1)
        return Tokens(pooled, local, valid)

    def _padded(
        self, features: Float[Tensor, "batch length dim"], valid: Valid
    ) -> Float[Tensor, "batch length both"]:
        """Run over the padding, which changes nothing here.

        A cell without biases that reads zeros stays at state zero, so the backward direction
        arrives at the last word as if it began there. Half the time of packing on CPU.
        """
        return self.lstm(features * valid[..., None])[0]

    def _packed(
        self, features: Float[Tensor, "batch length dim"], valid: Valid
    ) -> Float[Tensor, "batch length both"]:
        packed = pack_padded_sequence(
            features, valid.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = self.lstm(packed)
        return pad_packed_sequence(states, batch_first=True, total_length=valid.shape[1])[0]


def _masked_mean(local: Float[Tensor, "batch length dim"], valid: Valid) -> Features:
    # Rows of padding are zero already; an empty caption gives zero, not NaN.
    return local.sum(dim=1) / valid.sum(dim=1, keepdim=True).clamp(min=1)
