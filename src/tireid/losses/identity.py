"""Identity classification: every training identity is a class."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tireid.losses.precision import full_precision
from tireid.structures import Ids, Scalar


def identity_loss(
    logits: Float[Tensor, "batch ids"], labels: Ids, *, smoothing: float = 0.0
) -> Scalar:
    """Compute the cross-entropy of identity logits.

    It needs no gathering: the mean of equal batches over processes is the mean of the whole.

    Args:
        logits: Scores of the classes, before the softmax.
        labels: Training classes, 0 .. ids - 1, not the data set's own pids.
        smoothing: Share of the target that all classes, the right one among them, divide evenly
            (label smoothing: Szegedy et al., CVPR 2016, section 7), at least 0 and below 1.

    Returns:
        Mean over the batch, in nats, float32 or better.

    Raises:
        ValueError: If the batch sizes differ, or the smoothing is out of its range.

    Example:
        >>> import torch
        >>> identity_loss(torch.zeros(3, 4), torch.tensor([0, 1, 3])).exp()
        tensor(4.)
    """
    if len(logits) != len(labels):
        raise ValueError(
            f"expected one label per row of logits, got {len(labels)} labels, {len(logits)} rows"
        )
    if not 0 <= smoothing < 1:
        raise ValueError(f"label_smoothing: expected a share in [0, 1), got {smoothing}")
    with full_precision(logits) as (wide,):
        return F.cross_entropy(wide, labels.long(), label_smoothing=smoothing)
