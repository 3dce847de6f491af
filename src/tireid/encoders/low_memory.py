"""Train in less memory: what a backward pass needs is computed again instead of kept."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tireid.encoders.blocks import blocks_of, no_blocks

_ENTRIES = ("forward", "with_attention")  # what methods call of an encoder


def recompute_blocks(encoders: Iterable[nn.Module]) -> None:
    """Keep of each transformer block its input only, and compute the rest again for its gradient.

    Gradients stay the same, dropout included.

    Args:
        encoders: Image and text encoders.

    Raises:
        ValueError: If none of them is a transformer.
    """
    blocks = [block for encoder in encoders for block in blocks_of(encoder)]
    if not blocks:
        raise ValueError(no_blocks("checkpoint_activations", "true"))
    for block in blocks:
        block.forward = partial(_recomputed, block.forward)


def encode_in_pieces(encoder: nn.Module, size: int) -> None:
    """Let an encoder compute a training batch in pieces, each of them again for its gradient.

    So the memory is that of one piece, beside the tokens of the whole batch, which the loss sees.
    It is gradient caching (Gao et al., RepL4NLP 2021) in the form of checkpoints: the gradient at
    the tokens is known before any piece is computed with a graph.

    Args:
        encoder: An image or a text encoder.
        size: Samples of a piece.

    Raises:
        ValueError: If it normalises by the statistics of the batch.
    """
    if any(hasattr(module, "running_mean") for module in encoder.modules()):
        raise ValueError(
            f"micro_batch: expected encoders whose samples are independent, got "
            f"{type(encoder).__name__}, which normalises by its batch; set micro_batch=0"
        )
    for name in _ENTRIES:
        if hasattr(encoder, name):
            setattr(encoder, name, partial(_in_pieces, getattr(encoder, name), size))


def _recomputed(forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **options)
    return checkpoint(forward, *inputs, use_reentrant=False, **options)


@torch.compiler.disable(recursive=False)  # each piece is compiled: no graph holds several
def _in_pieces(
    forward: Callable[..., Any], size: int, *inputs: Tensor | None, **options: Any
) -> Any:
    samples = next(len(tensor) for tensor in inputs if tensor is not None)
    if samples <= size or not torch.is_grad_enabled():
        return forward(*inputs, **options)
    pieces = [
        _recomputed(
            forward, *(i if i is None else i[start : start + size] for i in inputs), **options
        )
        for start in range(0, samples, size)
    ]
    return _joined(pieces)


def _joined(pieces: list[Any]) -> Any:
    """Return what an encoder gives for a batch, from what it gives for its pieces."""
    first = pieces[0]
    if isinstance(first, Tensor):
        return torch.cat(pieces)
    if first is None:
        return None
    parts = [_joined(list(part)) for part in zip(*pieces, strict=True)]
    return first._make(parts) if hasattr(first, "_make") else tuple(parts)
