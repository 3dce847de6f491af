"""Identity classification: every training identity is a class."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tireid.losses.precision import full_precision
from tireid.structures import Ids, Scalar


def identity_loss(logits: Float[Tensor, "batch ids"], labels: Ids) -> Scalar:
    """Compute the cross-entropy of identity logits.

    It needs no gathering: the mean of equal batches over processes is the mean of the whole.

    Args:
        logits: Scores of the classes, before the softmax.
        labels: Training classes, 0 .. ids - 1, not the data set's own pids.

    Returns:
        Mean over the batch, in nats, float32 or better.

    Raises:
        ValueError: If the batch sizes differ.

    Example:
        >>> import torch
        >>> identity_loss(torch.zeros(3, 4), torch.tensor([0, 1, 3])).exp()
        tensor(4.)
    """
    if len(logits) != len(labels):
        raise ValueError(
            f"expected one label per row of logits, got {len(labels)} labels, {len(logits)} rows"
        )
    with full_precision(logits) as (wide,):
        return F.cross_entropy(wide, labels.long())
