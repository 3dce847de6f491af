"""LGUR's training step, plainly: every equation one eager statement, nothing shared or skipped.

The yardstick of `lgur_step.py`. It computes what `tireid.methods.lgur.Lgur` computes, in the way
a first implementation does: BERT at every step on captions padded to `PADDED_LENGTH`, attention
weights as whole matrices, the dictionary copied for every sample, keys and values of the
prototypes projected for every token, one identity head after the other, negatives drawn by NumPy
on the host, one anchor at a time, and losses added up in Python.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tireid.losses.ranking import Triplets
from tireid.methods.lgur import Lgur
from tireid.methods.lgur.head import CrossDecoder
from tireid.structures import PairBatch

PADDED_LENGTH = 100


class Attention(nn.Module):
    """Scores, softmax and weighted sum of several heads, from projected queries, keys, values."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None = None) -> Tensor:
        """Attend; all inputs and the result are (batch, length, heads * width)."""
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5  # (batch, heads, query, key)
        if valid is not None:
            scores = scores.masked_fill(~valid[:, None, None, :], -torch.finfo(scores.dtype).max)
        return (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)


class ImageBlock(nn.Module):
    """A pre-norm transformer block with stochastic depth."""

    def __init__(self, dim: int, heads: int, hidden: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attention = Attention(heads)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.drop_path = drop_path

    def drop(self, residual: Tensor) -> Tensor:
        """Drop whole residuals of samples in training."""
        if not self.training or self.drop_path == 0:
            return residual
        kept = torch.rand(len(residual), 1, 1) >= self.drop_path
        return residual / (1 - self.drop_path) * kept

    def forward(self, x: Tensor) -> Tensor:
        """Apply both residuals."""
        x = x + self.drop(self.proj(self.attention(*self.qkv(self.norm1(x)).chunk(3, dim=-1))))
        return x + self.drop(self.mlp(self.norm2(x)))


class ImageEncoder(nn.Module):
    """Patch convolution, class token, positions, blocks; no last norm; the class token goes."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        config = encoder.vit.config
        dim, patch = config.hidden_size, config.patch_size
        self.patches = nn.Conv2d(3, dim, patch, stride=patch)
        self.class_token = nn.Parameter(torch.empty(1, 1, dim))
        self.positions = nn.Parameter(torch.empty_like(encoder.vit.embeddings.position_embeddings))
        self.blocks = nn.ModuleList(
            ImageBlock(
                dim, config.num_attention_heads, config.intermediate_size, layer.dropout.rate
            )
            for layer in encoder.vit.layers
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the patch tokens."""
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.positions
        for block in self.blocks:
            x = block(x)
        return x[:, 1:]


class TextEncoder(nn.Module):
    """The frozen BERT at full padded length, then a packed bi-directional LSTM.

    BERT is the very module of the model under test (it has no gradients, so sharing it is safe).
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.bert = encoder.embedding.bert
        self.padded_length = min(PADDED_LENGTH, encoder.embedding.max_positions)
        lstm = encoder.lstm
        self.lstm = nn.LSTM(
            lstm.input_size, lstm.hidden_size, bias=False, batch_first=True, bidirectional=True
        )

    def forward(self, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return word tokens up to the longest caption, and which of them are real."""
        ids = F.pad(token_ids, (0, self.padded_length - token_ids.shape[1]))
        mask = ids != 0
        lengths = mask.sum(dim=1).cpu()
        with torch.no_grad():
            words = self.bert(ids, attention_mask=mask.long()).last_hidden_state
        packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        forward, backward = states.chunk(2, dim=-1)
        return (forward + backward) / 2, mask[:, : states.shape[1]]


class DecoderLayer(nn.Module):
    """Cross-attention with one norm for both sides, then a feed-forward network."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        attention, feed_forward = layer.attention, layer.feed_forward
        dim, width = attention.to_query.in_features, attention.to_query.out_features
        self.norm = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, width, bias=False)
        self.to_kv = nn.Linear(dim, 2 * width, bias=False)
        self.attention = Attention(attention.heads)
        self.to_out = nn.Linear(width, dim)
        hidden = feed_forward[1].out_features
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim)
        )

    def forward(self, x: Tensor, y: Tensor, valid: Tensor | None = None) -> Tensor:
        """Rebuild queries `x` from `y`; both have the whole batch."""
        k, v = self.to_kv(self.norm(y)).chunk(2, dim=-1)
        x = x + self.to_out(self.attention(self.to_q(self.norm(x)), k, v, valid))
        return x + self.feed_forward(x)


class ReferenceLgur(nn.Module):
    """The network and its identity heads, with the weights of the model under test.

    Args:
        model: Gives sizes and weights.
    """

    def __init__(self, model: Lgur) -> None:
        super().__init__()
        head: Any = model.head
        alignment: Any = model.alignment
        self.image_encoder = ImageEncoder(model.image_encoder)
        self.text_encoder = TextEncoder(model.text_encoder)
        self.dictionary = nn.Parameter(torch.empty_like(head.dictionary))
        self.prototypes = nn.Parameter(torch.empty_like(head.prototypes))
        self.foreground = nn.Linear(head.foreground.in_features, 1)
        self.dictionary_decoder = _decoder(head.dictionary_decoder)
        self.prototype_decoder = _decoder(head.prototype_decoder)
        ids = model.classifier_weight.shape[1]
        parts, feature, dim = head.part_projection.shape
        self.part_maps = nn.ModuleList(nn.Linear(dim, feature, bias=False) for _ in range(parts))
        self.identity_heads = nn.ModuleList(nn.Linear(feature, ids) for _ in range(parts))
        self.margin: float = alignment.margin
        self.random = np.random.RandomState(0)
        with torch.no_grad():
            for mine, theirs in self.correspondence(model, "data"):
                mine.copy_(theirs)

    def correspondence(self, model: Lgur, attribute: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each trained tensor of this module beside the same numbers of `model`.

        Args:
            model: The model under test.
            attribute: What of the parameters: `data` or `grad`.
        """

        def of(parameter: nn.Parameter) -> Tensor:
            return getattr(parameter, attribute)

        encoder: Any = model.image_encoder
        image: Any = self.image_encoder
        vit = encoder.vit
        pairs: list[tuple[nn.Parameter, list[nn.Parameter]]] = [
            (image.class_token, [vit.embeddings.cls_token]),
            (image.positions, [vit.embeddings.position_embeddings]),
            *_modules((image.patches, vit.embeddings.patch_embeddings.projection)),
        ]
        for block, layer in zip(image.blocks, vit.layers, strict=True):
            attention = layer.attention
            qkv = [attention.q_proj, attention.k_proj, attention.v_proj]
            pairs += [
                (block.qkv.weight, [part.weight for part in qkv]),
                (block.qkv.bias, [part.bias for part in qkv]),
                *_modules(
                    (block.norm1, layer.layernorm_before),
                    (block.norm2, layer.layernorm_after),
                    (block.proj, attention.o_proj),
                    (block.mlp[0], layer.mlp.fc1),
                    (block.mlp[2], layer.mlp.fc2),
                ),
            ]
        head: Any = model.head
        decoders: Any = (
            (self.dictionary_decoder, head.dictionary_decoder),
            (self.prototype_decoder, head.prototype_decoder),
        )
        parts: Any = enumerate(zip(self.part_maps, self.identity_heads, strict=True))
        text: Any = model.text_encoder
        pairs += [
            (self.dictionary, [head.dictionary]),
            (self.prototypes, [head.prototypes]),
            *_modules(
                (self.foreground, head.foreground),
                (self.text_encoder.lstm, text.lstm),
            ),
        ]
        for mine, theirs in decoders:
            for layer, other in zip(mine, theirs.layers, strict=True):
                attention = other.attention
                pairs += [
                    (layer.to_q.weight, [attention.to_query.weight]),
                    (layer.to_kv.weight, [attention.to_key.weight, attention.to_value.weight]),
                    *_modules(
                        (layer.norm, attention.norm),
                        (layer.to_out, attention.to_out),
                        (layer.feed_forward, other.feed_forward),
                    ),
                ]
        for mine, theirs in pairs:
            yield of(mine), torch.cat([of(part) for part in theirs])
        for k, (part_map, identity) in parts:
            yield of(part_map.weight), of(head.part_projection)[k]
            yield of(identity.weight), of(model.classifier_weight)[k]
            yield of(identity.bias), of(model.classifier_bias)[k, 0]

    def features(self, y: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        """Return one (batch, feature) tensor a prototype."""
        x = self.prototypes.expand(len(y), -1, -1)
        for layer in self.prototype_decoder:
            x = layer(x, y, valid)
        return [part_map(x[:, k]) for k, part_map in enumerate(self.part_maps)]

    def rebuild(self, x: Tensor, y: Tensor, valid: Tensor | None = None) -> Tensor:
        """Rebuild tokens `x` from `y`."""
        for layer in self.dictionary_decoder:
            x = layer(x, y, valid)
        return x

    def forward(self, batch: PairBatch, triplets: Sequence[Triplets] | None = None) -> Tensor:
        """Return the total loss.

        Args:
            batch: Its `words` are not used.
            triplets: The negatives of the four ranking terms, rows then columns of each; None:
                drawn here.
        """
        V = self.image_encoder(batch.images)
        T, valid = self.text_encoder(batch.token_ids)
        m = self.foreground(V).sigmoid()
        D = self.dictionary.expand(len(V), -1, -1)
        image_guided = self.features(m * self.rebuild(V, T, valid))
        text_raw = self.features(T, valid)
        image_dictionary = self.features(m * self.rebuild(V, D))
        text_dictionary = self.features(self.rebuild(T, D), valid)
        given = iter(triplets) if triplets is not None else None
        return (
            self.identity_loss(image_guided, text_raw, batch.label)
            + self.identity_loss(image_dictionary, text_dictionary, batch.label)
            + self.ranking_loss(image_guided, text_raw, batch.pid, given)
            + self.ranking_loss(image_dictionary, text_dictionary, batch.pid, given)
            + self.ranking_loss(text_raw, text_dictionary, batch.pid, given)
            + self.ranking_loss(image_guided, image_dictionary, batch.pid, given)
        )

    def identity_loss(self, images: list[Tensor], texts: list[Tensor], labels: Tensor) -> Tensor:
        """Return the mean over the prototypes of the cross-entropies of both modalities."""
        total = torch.zeros(())
        for head, image, text in zip(self.identity_heads, images, texts, strict=True):
            total = total + F.cross_entropy(head(image), labels) / len(images)
            total = total + F.cross_entropy(head(text), labels) / len(images)
        return total

    def ranking_loss(
        self,
        rows: list[Tensor],
        columns: list[Tensor],
        pids: Tensor,
        given: Iterator[Triplets] | None,
    ) -> Tensor:
        """Return the hinge of the rows' negatives and of the columns', summed over the anchors."""
        x, y = torch.cat(rows, dim=1), torch.cat(columns, dim=1)
        S = x / x.norm(dim=1, keepdim=True) @ (y / y.norm(dim=1, keepdim=True)).t()
        total = torch.zeros(())
        for similarity in (S, S.t()):
            negatives = self.mine(similarity, pids) if given is None else _listed(next(given))
            for i, j in negatives:
                total = total + F.relu(self.margin - similarity[i, i] + similarity[i, j])
        return total

    def mine(self, similarity: Tensor, pids: Tensor) -> list[tuple[int, int]]:
        """Return (anchor, negative) pairs, one for each anchor that has a semi-hard negative."""
        S, ids = similarity.detach().cpu().numpy(), pids.cpu().numpy()
        found = []
        for i in range(len(ids)):
            gap = S[i] - S[i, i] + self.margin
            candidates = np.where((ids != ids[i]) & (gap > 0) & (gap < self.margin))[0]
            if len(candidates):
                found.append((i, int(self.random.choice(candidates))))
        return found or [(len(ids) - 1, int(np.where(ids != ids[-1])[0][0]))]


def _decoder(decoder: CrossDecoder) -> nn.ModuleList:
    return nn.ModuleList(DecoderLayer(layer) for layer in decoder.layers)


def _modules(*pairs: tuple[nn.Module, nn.Module]) -> list[tuple[nn.Parameter, list[nn.Parameter]]]:
    return [
        (mine, [theirs])
        for module, other in pairs
        for mine, theirs in zip(module.parameters(), other.parameters(), strict=True)
    ]


def _listed(triplets: Triplets) -> list[tuple[int, int]]:
    return [(i, int(j)) for i, j in enumerate(triplets.negative.tolist()) if bool(triplets.used[i])]
