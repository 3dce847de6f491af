"""BERT (Devlin et al., NAACL 2019) as a source of token features, frozen or trained."""

import hashlib
import json
from pathlib import Path
from typing import Literal

import torch
import transformers
from torch import nn
from transformers import BertConfig, BertModel

from tireid.encoders.pretrained import load_exactly, read_pretrained
from tireid.structures import TokenIds, Tokens, Valid


class BertEncoder(nn.Module):
    """The last hidden states of a BERT; `pooled` is that of the first token, [CLS].

    `local` holds every position, [CLS] and [SEP] included: LGUR counts them as ordinary tokens.
    Its rows at padding have no meaning.

    Args:
        pretrained: Hub name or `save_pretrained` folder of a BERT of these sizes, or False.
        frozen: Whether the weights stay as they are and get no gradients.
        frozen_dropout: When the dropout of a frozen BERT is active in training: `never`, `always`,
            or `official`: from the second epoch on (see `set_epoch`).
        vocab_size: Number of token ids.
        dim: Width of the tokens; also `out_dim`.
        depth: Number of transformer blocks.
        heads: Number of attention heads.
        mlp_dim: Hidden width of the MLPs, four times `dim` by default.
        max_positions: Longest caption, in tokens.
        dropout: Dropout probability after each sub-layer and on the attention weights.

    Raises:
        ValueError: If `frozen_dropout` is unknown.

    Source:
        Dropout of a frozen BERT: LGUR's official code calls `.eval()` on it once, and the first
        `train()` of the whole model after the first epoch's test switches it back on.
    """

    bert: BertModel

    def __init__(
        self,
        pretrained: str | Literal[False] = False,
        frozen: bool = False,
        frozen_dropout: str = "never",
        vocab_size: int = 30522,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_dim: int | None = None,
        max_positions: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if frozen_dropout not in ("never", "official", "always"):
            raise ValueError(
                f"frozen_dropout: expected never, official or always, got {frozen_dropout!r}"
            )
        config = BertConfig(
            vocab_size=vocab_size,
            hidden_size=dim,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            intermediate_size=4 * dim if mlp_dim is None else mlp_dim,
            max_position_embeddings=max_positions,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        self.bert = BertModel(config, add_pooling_layer=False)
        if pretrained is not False:
            state = read_pretrained("BertModel", pretrained).state_dict()
            state = {key: value for key, value in state.items() if not key.startswith("pooler.")}
            load_exactly(self.bert, state, pretrained)
        self.out_dim = dim
        self.max_positions = max_positions
        self.frozen = frozen
        self.frozen_dropout = frozen_dropout
        self._epoch = 0
        if frozen:
            self.requires_grad_(False)
            self.train(self.training)

    @property
    def constant(self) -> bool:
        """Whether a caption's features never change: frozen, and no dropout."""
        return self.frozen and self.frozen_dropout == "never"

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the training, from 0, which `frozen_dropout=official` depends on."""
        self._epoch = epoch
        self.train(self.training)

    def train(self, mode: bool = True) -> "BertEncoder":
        """Set the mode; a frozen BERT's dropout has its own rule."""
        super().train(mode)
        if self.frozen:
            active = {"never": False, "official": self._epoch > 0, "always": True}
            self.bert.train(mode and active[self.frozen_dropout])
        return self

    def fingerprint(self) -> str:
        """Return a SHA-256 of all that a caption's features depend on: weights, config and code."""
        config = self.bert.config
        # What shapes do not show. Dropout does not matter where `constant` is true.
        settings = [config.num_attention_heads, config.hidden_act, config.layer_norm_eps]
        digest = hashlib.sha256(json.dumps([*settings, transformers.__version__]).encode())
        digest.update(Path(__file__).read_bytes())
        for name, weight in self.bert.state_dict().items():
            digest.update(json.dumps([name, str(weight.dtype), *weight.shape]).encode())
            digest.update(weight.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def forward(self, token_ids: TokenIds, valid: Valid) -> Tokens:
        """Encode captions of at most `max_positions` tokens."""
        check_length(token_ids, self.max_positions)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            # Four axes: with two the library asks the device whether anything is masked, and waits.
            mask = valid[:, None, None, :]
            local = self.bert(token_ids, attention_mask=mask).last_hidden_state
        return Tokens(local[:, 0], local, valid)


def check_length(token_ids: TokenIds, max_positions: int) -> None:
    """Check that captions are no longer than the position table.

    Raises:
        ValueError: If there are more than `max_positions` tokens.
    """
    if token_ids.shape[1] > max_positions:
        raise ValueError(
            f"expected captions of at most {max_positions} tokens, got {token_ids.shape[1]}; "
            "lower text_encoder.tokenizer.max_length, or raise max_positions"
        )
