"""Masked-word prediction: every word of the vocabulary is a class."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from tireid.losses.gather import mean_over_processes
from tireid.losses.precision import full_precision
from tireid.structures import Scalar


def masked_word_loss(
    logits: Float[Tensor, "masked words"], words: Int[Tensor, " masked"]
) -> Scalar:
    """Compute the cross-entropy of the masked words of the global batch.

    Processes mask different numbers of words: each divides its sum by the mean of these numbers, so
    that the mean of the losses over processes, and of their gradients, is that of one process.

    Args:
        logits: Scores of the words at each masked position, before the softmax.
        words: The words that were there.

    Returns:
        This process's share, in nats, float32 or better.

    Raises:
        ValueError: If the numbers of rows differ.

    Source:
        Jiang & Ye, IRRA, CVPR 2023, section 3.2. Official code: labels at every position, 0 where
        none is asked for. Here: only the positions that are asked for are scored, the same mean.

    Example:
        >>> import torch
        >>> masked_word_loss(torch.zeros(3, 4), torch.tensor([0, 1, 3])).exp()
        tensor(4.)
    """
    if len(logits) != len(words):
        raise ValueError(
            f"expected one word per row of logits, got {len(words)} words, {len(logits)} rows"
        )
    with full_precision(logits) as (wide,):
        total = F.cross_entropy(wide, words.long(), reduction="sum")
        return total / mean_over_processes(total.new_full((), len(words)))
