"""Convolutions over token features: TIPCB's residual blocks, or Kim's parallel windows."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from tireid.encoders.batch_norm import normalise
from tireid.structures import TokenIds, Tokens, Valid, Words


class TextCnnEncoder(nn.Module):
    """One-dimensional convolutions over the token features of `embedding`, and their maximum.

    Every valid position takes part, special tokens included. Padding is zero before every
    convolution that looks at neighbours, is left out of the batch statistics and cannot be the
    maximum: a caption in evaluation mode depends on nothing but itself. Rows of `local` at padding
    are zero.

    Args:
        embedding: A text encoder, frozen or not; the convolutions read its `local`.
        layout: "tipcb": 1x1 convolution to `stem_dim`, three residual bottlenecks to `out_dim`.
            "kim": one convolution for each of `kernel_sizes`, their outputs concatenated.
        out_dim: Channels of the last map; in "kim" shared evenly by the kernels.
        stem_dim: Channels before the bottlenecks ("tipcb").
        bottleneck_dim: Channels inside the bottlenecks ("tipcb").
        kernel_sizes: Words that a window covers ("kim").
        dropout: Probability of dropping an input feature of the convolutions in training.

    Raises:
        ValueError: If `layout` is unknown, or the kernels cannot share `out_dim`.

    Source:
        "tipcb": Chen et al., TIPCB, arXiv 2105.11628, one branch in place of six. "kim": Kim,
        "Convolutional Neural Networks for Sentence Classification", EMNLP 2014. LCR2S says
        "TextCNN" alone; the published widths of TIPCB end, like ResNet-50, in 2048 channels.
    """

    layers: nn.Module

    def __init__(
        self,
        embedding: nn.Module,
        layout: str = "tipcb",
        out_dim: int = 2048,
        stem_dim: int = 1024,
        bottleneck_dim: int = 512,
        kernel_sizes: Sequence[int] = (2, 3, 4, 5),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        width: int = embedding.out_dim  # pyright: ignore[reportAssignmentType] (nn.Module's getattr)
        self.dropout = nn.Dropout(dropout)
        if layout == "tipcb":
            self.layers = _ResidualLayers(width, stem_dim, bottleneck_dim, out_dim)
        elif layout == "kim":
            self.layers = _ParallelWindows(width, kernel_sizes, out_dim)
        else:
            raise ValueError(f"layout: expected 'tipcb' or 'kim', got {layout!r}")
        self.out_dim = out_dim

    def forward(self, token_ids: TokenIds, valid: Valid, words: Words = None) -> Tokens:
        """Encode captions of any lengths.

        Args:
            token_ids: Read by `embedding` only.
            valid: True = real token.
            words: The token features `embedding(token_ids, valid).local`, if they were computed
                before.
        """
        features = self.embedding(token_ids, valid).local if words is None else words
        mask = valid[:, None]  # (batch, 1, length)
        maps = self.layers(self.dropout(features).mT * mask, mask)
        # Both layouts end in a ReLU, so that the zeros of padding never exceed a word.
        local = maps.mT * valid[..., None]
        return Tokens(local.amax(dim=1), local, valid)


class _ResidualLayers(nn.Module):
    """TIPCB: a 1x1 convolution and three bottlenecks, the first with a projected shortcut."""

    def __init__(self, width: int, stem_dim: int, bottleneck_dim: int, out_dim: int) -> None:
        super().__init__()
        self.stem = _ConvNorm(width, stem_dim, 1)
        self.blocks = nn.ModuleList(
            _Bottleneck(stem_dim if number == 0 else out_dim, bottleneck_dim, out_dim, number == 0)
            for number in range(3)
        )

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        maps = self.stem(features, mask).relu()
        for block in self.blocks:
            maps = block(maps, mask)
        return maps


class _Bottleneck(nn.Module):
    def __init__(self, dim: int, bottleneck_dim: int, out_dim: int, project: bool) -> None:
        super().__init__()
        self.reduce = _ConvNorm(dim, bottleneck_dim, 1)
        self.mix = _ConvNorm(bottleneck_dim, bottleneck_dim, 3)
        self.expand = _ConvNorm(bottleneck_dim, out_dim, 1)
        self.shortcut = _ConvNorm(dim, out_dim, 1) if project else None

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        maps = self.reduce(features, mask).relu()
        maps = self.mix(maps * mask, mask).relu()
        maps = self.expand(maps, mask)
        carried = features if self.shortcut is None else self.shortcut(features, mask)
        return (maps + carried).relu()


class _ParallelWindows(nn.Module):
    """Kim: windows of several widths; a window starts (k - 1) // 2 words before its position."""

    def __init__(self, width: int, kernel_sizes: Sequence[int], out_dim: int) -> None:
        super().__init__()
        if not kernel_sizes or out_dim % len(kernel_sizes):
            raise ValueError(
                f"out_dim: expected a multiple of the {len(kernel_sizes)} kernel_sizes "
                f"{list(kernel_sizes)}, got {out_dim}"
            )
        self.windows = nn.ModuleList(
            nn.Conv1d(width, out_dim // len(kernel_sizes), size) for size in kernel_sizes
        )
        # Zeros on both sides, so that every word has its window in a caption of any length.
        self.paddings = [((size - 1) // 2, size // 2) for size in kernel_sizes]

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        maps = [
            window(F.pad(features, padding))
            for window, padding in zip(self.windows, self.paddings, strict=True)
        ]
        return torch.cat(maps, dim=1).relu()


class _ConvNorm(nn.Module):
    """A bias-free convolution that keeps the length, and a batch norm that ignores padding."""

    def __init__(self, dim: int, out_dim: int, kernel_size: Literal[1, 3]) -> None:
        super().__init__()
        self.conv = nn.Conv1d(dim, out_dim, kernel_size, padding=kernel_size // 2, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.norm = MaskedBatchNorm(out_dim)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        return self.norm(self.conv(features), mask)


class MaskedBatchNorm(nn.Module):
    """Batch normalisation of sequences, with statistics of the valid positions only.

    On a batch without padding it equals `nn.BatchNorm1d`; parameters and buffers have its names.

    Args:
        dim: Number of channels.
        epsilon: Added to the variance.
        momentum: Weight of a new batch in the running statistics.

    Attributes:
        shared_statistics: Whether training statistics are those of all ranks, or of this rank's
            share of the batch; see `tireid.encoders.batch_norm.share_statistics`.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, dim: int, *, epsilon: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))
        self.register_buffer("num_batches_tracked", torch.tensor(0))
        self.epsilon = epsilon
        self.momentum = momentum
        self.shared_statistics = False

    def forward(
        self, features: Float[Tensor, "batch dim length"], valid: Bool[Tensor, "batch 1 length"]
    ) -> Float[Tensor, "batch dim length"]:
        """Normalise each channel; the values at padding have no meaning."""
        if self.training:
            self.num_batches_tracked += 1
            return normalise(features, valid, self, epsilon=self.epsilon, momentum=self.momentum)
        scale = self.weight * torch.rsqrt(self.running_var + self.epsilon)
        shift = self.bias - self.running_mean * scale
        return (features * scale[:, None] + shift[:, None]).to(features.dtype)
