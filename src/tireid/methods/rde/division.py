"""Confident consensus division: which training pairs are thought to be rightly matched.

Once an epoch the losses of all pairs are computed. For each of two embeddings a mixture of two
Gaussians tells pairs of low loss from those of high loss; where the two embeddings disagree, a coin
decides. Qin et al., RDE, CVPR 2024 (arXiv 2308.09911); official code QinYang79/RDE at b3fd396.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from tireid.data.transforms import keyed_generator

_COIN = int.from_bytes(b"coin", "big")  # separates the coins from other draws of an epoch


@dataclass(frozen=True, slots=True)
class DivisionSettings:
    """How training pairs are divided.

    Attributes:
        enabled: Whether they are; if not, all are trusted.
        warmup_epochs: First epochs in which all pairs are trusted. Official: 0, although the losses
            of the first epoch come from random layers.
        inputs: `augmented`, the losses are those of augmented images and captions, as in the
            official code; `clean`, of images and captions as they are.
        max_iter: Most steps of the mixture's fit. Official: 10; 100 for RSTPReid and for a share of
            noise above 0.4.
        tolerance: Change of the mean log-likelihood at which the fit ends. Official: 0.01; 1e-4 for
            the same.
        regularisation: Added to each variance. Official: 5e-4; 1e-6 for the same.
    """

    enabled: bool = True
    warmup_epochs: int = 0
    inputs: str = "augmented"
    max_iter: int = 10
    tolerance: float = 0.01
    regularisation: float = 5e-4

    def __post_init__(self) -> None:
        if self.inputs not in ("augmented", "clean"):
            raise ValueError(f"division.inputs: expected augmented or clean, got {self.inputs!r}")
        for name, least in (("warmup_epochs", 0), ("max_iter", 1)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"division.{name}: expected at least {least}, got {getattr(self, name)}"
                )
        for name in ("tolerance", "regularisation"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"division.{name}: expected a number above 0, got {value}")


class Mixture(NamedTuple):
    """Two Gaussians of one dimension, one entry each.

    Attributes:
        shares: Weights, which sum to 1.
        means: Means.
        variances: Variances.
    """

    shares: Float64[Tensor, "2"]
    means: Float64[Tensor, "2"]
    variances: Float64[Tensor, "2"]

    def log_densities(self, values: Float64[Tensor, " pairs"]) -> Float64[Tensor, "pairs 2"]:
        """Return the logarithm of each component's share of the density at each value."""
        squares = (values[:, None] - self.means).square() / self.variances
        return self.shares.log() - 0.5 * (squares + (2 * math.pi * self.variances).log())


def divide(
    losses: tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]],
    settings: DivisionSettings,
    *,
    seed: int,
    epoch: int,
) -> Bool[Tensor, " pairs"]:
    """Return which pairs are trusted: both embeddings say so, or they differ and a coin does.

    Args:
        losses: Loss of each pair by its global and by its token embedding.
        settings: How the mixtures are fitted.
        seed: Key of the coins, with the epoch. The official code draws from torch's generator.
        epoch: From 0.
    """
    first, second = (is_clean(clean_probability(one, settings)) for one in losses)
    generator = keyed_generator(seed, epoch, _COIN)
    coins = torch.randint(2, first.shape, generator=generator).bool()
    return torch.where(first == second, first, coins)


def clean_probability(
    losses: Float[Tensor, " pairs"],
    settings: DivisionSettings,
    start: Bool[Tensor, " pairs"] | None = None,
) -> Float64[Tensor, " pairs"]:
    """Return the posterior of the mixture's component with the smaller mean.

    Args:
        losses: Scaled here to [0, 1]. If all are equal, all pairs are clean; the official code
            divides 0 by 0.
        settings: How the mixture is fitted.
        start: The pairs of the second component to begin with; None: those of the best division
            into two clusters. The official code begins with k-means of one random start.
    """
    wide = losses.double()
    low, high = wide.aminmax()
    if low == high:
        return torch.ones_like(wide)
    scaled = (wide - low) / (high - low)
    mixture = fit_mixture(scaled, two_clusters(scaled) if start is None else start, settings)
    posterior = mixture.log_densities(scaled).softmax(dim=1)
    return posterior[:, int(mixture.means.argmin())]


def is_clean(probability: Float64[Tensor, " pairs"]) -> Bool[Tensor, " pairs"]:
    """Return which pairs are clean by one embedding: above 0.5, but never all of them.

    If even the smallest probability is above 0.5, the least sure hundredth is called noisy. Equal
    probabilities of 1, of losses that are all equal, are clean.
    """
    threshold = probability.new_tensor(0.5)
    if probability.amin() > threshold:
        threshold = probability.sort().values[len(probability) // 100]
    if probability.amin() == 1:
        return torch.ones_like(probability, dtype=torch.bool)
    return probability > threshold


def two_clusters(values: Float64[Tensor, " pairs"]) -> Bool[Tensor, " pairs"]:
    """Return the upper of two clusters whose squared distances from their means are least.

    In one dimension the clusters are an interval each, so all divisions are tried: no random start.

    Args:
        values: Not all equal.
    """
    ordered = values.sort().values
    below = torch.arange(1, len(values), dtype=values.dtype)
    sums = ordered.cumsum(0)
    left, right = sums[:-1], sums[-1] - sums[:-1]
    # The sum of squares within is that of all less this.
    between = left.square() / below + right.square() / (len(values) - below)
    between[ordered[1:] == ordered[:-1]] = -torch.inf  # equal values stay together
    return values > ordered[int(between.argmax())]


def fit_mixture(
    values: Float64[Tensor, " pairs"], start: Bool[Tensor, " pairs"], settings: DivisionSettings
) -> Mixture:
    """Fit two Gaussians by expectation maximisation.

    Args:
        values: What the mixture describes.
        start: The values that the second component begins with; the first has the others.
        settings: When the fit ends, and what is added to the variances.

    Source:
        `GaussianMixture` of scikit-learn, which the official code calls: the likelihood is that of
        before a step, and ten machine epsilons are added to the sizes of the components.
    """
    before, mixture = (
        -math.inf,
        _maximise(values, torch.stack([~start, start], 1).double(), settings),
    )
    for _ in range(settings.max_iter):
        densities = mixture.log_densities(values)
        totals = densities.logsumexp(dim=1)
        mixture = _maximise(values, (densities - totals[:, None]).exp(), settings)
        likelihood = float(totals.mean())
        if abs(likelihood - before) < settings.tolerance:
            break
        before = likelihood
    return mixture


def _maximise(
    values: Float64[Tensor, " pairs"],
    responsibilities: Float64[Tensor, "pairs 2"],
    settings: DivisionSettings,
) -> Mixture:
    sizes = responsibilities.sum(dim=0) + 10 * torch.finfo(values.dtype).eps
    means = responsibilities.mT @ values / sizes
    squares = (values[:, None] - means).square()
    variances = (responsibilities * squares).sum(dim=0) / sizes + settings.regularisation
    return Mixture(sizes / sizes.sum(), means, variances)
