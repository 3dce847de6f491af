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
    _check(logits, labels, smoothing)
    with full_precision(logits) as (wide,):
        return F.cross_entropy(wide, labels.long(), label_smoothing=smoothing)


def sampled_identity_loss(
    logits: Float[Tensor, "batch sampled"],
    labels: Ids,
    weights: Float[Tensor, " sampled"],
    *,
    smoothing: float = 0.0,
) -> Scalar:
    """Estimate `identity_loss` from some of the classes, each of which stands for several.

    The sum in the softmax's denominator is without bias, and so is the mean logit of the smoothing.
    Its logarithm, and so the loss, is on average too low, the less the more classes there are.

    Args:
        logits: Scores of the sampled classes.
        labels: Column of each row's own class.
        weights: How many classes each column stands for; together all of them.
        smoothing: As in `identity_loss`.

    Returns:
        Mean over the batch, in nats, float32 or better; with weights of 1 that of `identity_loss`.

    Raises:
        ValueError: As `identity_loss`.

    Source:
        Bengio & Senécal, "Adaptive Importance Sampling to Accelerate Training of a Neural
        Probabilistic Language Model", IEEE TNN 2008, with uniform draws.

    Example:
        >>> import torch
        >>> logits, weights = torch.zeros(1, 2), torch.tensor([1.0, 3.0])
        >>> sampled_identity_loss(logits, torch.tensor([0]), weights).exp()
        tensor(4.)
    """
    _check(logits, labels, smoothing)
    with full_precision(logits, weights) as (wide, counts):
        total = (wide + counts.log()).logsumexp(dim=1)
        own = wide.gather(1, labels.long()[:, None]).squeeze(1)
        mean = wide @ (counts / counts.sum()) if smoothing else 0.0
        return (total - (1 - smoothing) * own - smoothing * mean).mean()


def _check(logits: Tensor, labels: Tensor, smoothing: float) -> None:
    if len(logits) != len(labels):
        raise ValueError(
            f"expected one label per row of logits, got {len(labels)} labels, {len(logits)} rows"
        )
    if not 0 <= smoothing < 1:
        raise ValueError(f"label_smoothing: expected a share in [0, 1), got {smoothing}")
