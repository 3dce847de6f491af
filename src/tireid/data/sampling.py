"""Settings of how training batches are drawn, and the sampler that they make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tireid.data.records import Record
from tireid.data.samplers import (
    CoveringSampler,
    GlobalBatchSampler,
    IdentityBalancedSampler,
    ShuffledSampler,
    WeightedSampler,
)

_NAMES = ("shuffled", "identity_balanced")


@dataclass(frozen=True, slots=True)
class Sampling:
    """Settings of the training batches.

    Attributes:
        sampler: `shuffled`, over pairs, or `identity_balanced`.
        pairs_per_id: Pairs of an identity in a batch of `identity_balanced`.
        weights: Share of an epoch that each set of a mixed data set has; None: as its size.
        seed: Key of the draws, with the epoch.

    Raises:
        ValueError: If the sampler has another name, or does not take weights.
    """

    sampler: str
    pairs_per_id: int
    weights: Mapping[str, float | int] | None
    seed: int

    def __post_init__(self) -> None:
        if self.sampler not in _NAMES:
            raise ValueError(f"sampler: expected one of {', '.join(_NAMES)}, got {self.sampler!r}")
        if self.weights is not None and self.sampler != "shuffled":
            raise ValueError(
                f"weights: expected null with sampler={self.sampler}, got {dict(self.weights)}"
            )

    def fitting(self, num_pairs: int, num_replicas: int) -> int:
        """Return the largest batch size that so few pairs fill on all processes."""
        balanced = self.sampler == "identity_balanced"
        unit = num_replicas * (self.pairs_per_id if balanced else 1)
        return max(unit, num_pairs - num_pairs % unit)

    def training(
        self, records: Sequence[Record], labels: Sequence[int], batch_size: int, **ranks: int
    ) -> GlobalBatchSampler:
        """Return the sampler of a training.

        Args:
            records: The training images.
            labels: Identity of each pair.
            batch_size: Over all processes.
            **ranks: `num_replicas` and `rank`.

        Raises:
            ValueError: If the pairs do not make such batches.
        """
        common = {"batch_size": batch_size, "seed": self.seed, **ranks}
        if self.weights is not None:
            sources = [record.source for record in records for _ in record.captions]
            return WeightedSampler(sources, weights=self.weights, **common)
        if self.sampler == "shuffled":
            return ShuffledSampler(len(labels), **common)
        return IdentityBalancedSampler(labels, pairs_per_id=self.pairs_per_id, **common)

    def covering(self, num_pairs: int, batch_size: int, **ranks: int) -> CoveringSampler:
        """Return a sampler that reaches every pair once in an epoch; arguments as above."""
        return CoveringSampler(num_pairs, batch_size=batch_size, seed=self.seed, **ranks)
