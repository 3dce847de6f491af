"""Samplers: the batches of each rank, as a function of seed and epoch alone.

Training samplers draw whole global batches; each rank takes its slice, so the number of processes
does not change what a step sees. Lightning must not wrap them: `use_distributed_sampler=False`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from tireid.data.transforms import keyed_generator


class SampleKey(NamedTuple):
    """Key of one training item.

    Attributes:
        epoch: Epoch of the draw, part of the key of the item's augmentation.
        pair: Position of the pair in the split.
        repeat: Number of earlier draws of this pair in the epoch.
    """

    epoch: int
    pair: int
    repeat: int = 0


class GlobalBatchSampler(Sampler[SampleKey]):
    """Base of the training samplers: deals global batches out to ranks.

    Args:
        num_pairs: Number of (image, caption) pairs.
        batch_size: Global batch size.
        num_replicas: Number of processes; divides the batch size.
        rank: This process.
        seed: Seed of the random order, together with the epoch.

    Raises:
        ValueError: If the pairs do not fill one batch, or the ranks cannot share it evenly.
    """

    def __init__(
        self,
        num_pairs: int,
        *,
        batch_size: int,
        num_replicas: int = 1,
        rank: int = 0,
        seed: int = 0,
    ) -> None:
        check_batch_size(batch_size, num_replicas)
        if not 0 <= rank < num_replicas:
            raise ValueError(f"rank: expected 0 to {num_replicas - 1}, got {rank}")
        if num_pairs < batch_size:
            raise ValueError(
                f"expected at least batch_size={batch_size} training pairs, got {num_pairs};"
                f" set batch_size to {num_pairs} or less, or use more data"
            )
        self._num_batches = num_pairs // batch_size
        self._num_pairs = num_pairs
        self._batch_size = batch_size
        self._share = batch_size // num_replicas
        self._rank = rank
        self._seed = seed
        self._epoch = 0
        self._first_batch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; Lightning calls it before each one."""
        self._epoch = epoch

    def skip(self, batches: int) -> None:
        """Leave the first batches of the next iteration out, as if they had been yielded."""
        self._first_batch = batches

    def __len__(self) -> int:
        """Return the number of items of this rank in an epoch."""
        return self._num_batches * self._share

    def __iter__(self) -> Iterator[SampleKey]:
        """Yield this rank's keys of one epoch, batch after batch."""
        epoch = self._epoch
        first, self._first_batch = self._first_batch, 0
        start = self._rank * self._share
        for number, batch in enumerate(self._global_batches(epoch)):
            if number >= first:
                yield from batch[start : start + self._share]

    def _global_batches(self, epoch: int) -> Iterator[list[SampleKey]]:
        raise NotImplementedError


class ShuffledSampler(GlobalBatchSampler):
    """A plain shuffle over the pairs; the incomplete last batch is dropped.

    Source:
        LGUR's release, and MANet, SSAN and TIPCB, train this way.
    """

    def _global_batches(self, epoch: int) -> Iterator[list[SampleKey]]:
        order = torch.randperm(self._num_pairs, generator=keyed_generator(self._seed, epoch))
        for number in range(self._num_batches):
            batch = order[number * self._batch_size : (number + 1) * self._batch_size]
            yield [SampleKey(epoch, index) for index in batch.tolist()]


class CoveringSampler(GlobalBatchSampler):
    """A plain shuffle that reaches every pair; the first pairs fill up the last batch."""

    def __init__(self, num_pairs: int, *, batch_size: int, **ranks: int) -> None:
        super().__init__(num_pairs, batch_size=batch_size, **ranks)
        self._num_batches = -(-num_pairs // batch_size)

    def _global_batches(self, epoch: int) -> Iterator[list[SampleKey]]:
        order = torch.randperm(self._num_pairs, generator=keyed_generator(self._seed, epoch))
        order = torch.cat([order, order])[: self._num_batches * self._batch_size]
        for batch in order.split(self._batch_size):
            yield [SampleKey(epoch, index) for index in batch.tolist()]


class WeightedSampler(GlobalBatchSampler):
    """A shuffle in which each of several data sets has its share of an epoch.

    The pairs of a set come in a shuffled order, each once before any comes again. An epoch has the
    batches of a plain shuffle.

    Args:
        sources: Name of each pair's data set.
        weights: Weight of each set; its share is that of all weights.
        batch_size: Global batch size.
        ranks: `num_replicas`, `rank` and `seed` of `GlobalBatchSampler`.

    Raises:
        ValueError: If a weight is not positive, or not all sets and only they have one.
    """

    def __init__(
        self,
        sources: Sequence[str],
        *,
        weights: Mapping[str, float | int],
        batch_size: int,
        **ranks: int,
    ) -> None:
        super().__init__(len(sources), batch_size=batch_size, **ranks)
        self._pairs: dict[str, list[int]] = {}
        for pair, source in enumerate(sources):
            self._pairs.setdefault(source, []).append(pair)
        if weights.keys() != self._pairs.keys() or min(weights.values()) <= 0:
            raise ValueError(
                "dataset.weights: expected a positive weight for each of "
                f"{', '.join(filter(None, self._pairs)) or 'the sets of dataset=mixed'}, got "
                f"{dict(weights)}"
            )
        total = self._num_batches * batch_size
        names = list(self._pairs)
        ends = torch.tensor([weights[name] for name in names], dtype=torch.float64).cumsum(0)
        ends = (ends / ends[-1] * total).round().long().tolist()
        self._shares = dict(zip(names, ends, strict=True))

    def _global_batches(self, epoch: int) -> Iterator[list[SampleKey]]:
        generator = keyed_generator(self._seed, epoch)
        keys: list[SampleKey] = []
        for name, end in self._shares.items():
            pairs, repeat = self._pairs[name], 0
            while len(keys) < end:
                deck = _shuffle(pairs, generator)[: end - len(keys)]
                keys += [SampleKey(epoch, pair, repeat) for pair in deck]
                repeat += 1
        order = torch.randperm(len(keys), generator=generator)
        for batch in order.split(self._batch_size):
            yield [keys[position] for position in batch.tolist()]


class IdentityBalancedSampler(GlobalBatchSampler):
    """The same number of pairs of each of a number of identities in every batch.

    Identities come in a shuffled order, each once before any comes again, except for those left
    over when the order no longer fills a batch. The pairs of an identity come in the same way, so
    one with fewer than `pairs_per_id` repeats them. An epoch has the batches of a plain shuffle.

    Args:
        labels: Identity of each pair.
        pairs_per_id: Pairs of an identity in a batch.
        batch_size: Global batch size; a multiple of `pairs_per_id`.
        num_replicas: Number of processes; divides the batch size.
        rank: This process.
        seed: Seed of the random order, together with the epoch.

    Raises:
        ValueError: If the pairs cannot fill a batch in this way.
    """

    def __init__(
        self,
        labels: Sequence[int],
        *,
        pairs_per_id: int,
        batch_size: int,
        num_replicas: int = 1,
        rank: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            len(labels), batch_size=batch_size, num_replicas=num_replicas, rank=rank, seed=seed
        )
        if pairs_per_id < 1 or batch_size % pairs_per_id:
            raise ValueError(
                f"pairs_per_id: expected a divisor of batch_size={batch_size}, got {pairs_per_id}"
            )
        self._pairs: dict[int, list[int]] = {}
        for index, label in enumerate(labels):
            self._pairs.setdefault(label, []).append(index)
        self._pairs_per_id = pairs_per_id
        self._ids_per_batch = batch_size // pairs_per_id
        if len(self._pairs) < self._ids_per_batch:
            raise ValueError(
                f"expected at least {self._ids_per_batch} identities for batch_size={batch_size}"
                f" and pairs_per_id={pairs_per_id}, got {len(self._pairs)};"
                " set a smaller batch_size or a larger pairs_per_id"
            )

    def _global_batches(self, epoch: int) -> Iterator[list[SampleKey]]:
        generator = keyed_generator(self._seed, epoch)
        ids: list[int] = []
        decks: dict[int, list[int]] = {}
        drawn: dict[int, int] = {}
        for _ in range(self._num_batches):
            if len(ids) < self._ids_per_batch:
                ids = _shuffle(list(self._pairs), generator)
            batch: list[SampleKey] = []
            for _ in range(self._ids_per_batch):
                label = ids.pop()
                for _ in range(self._pairs_per_id):
                    deck = decks.get(label) or _shuffle(self._pairs[label], generator)
                    index = deck.pop()
                    decks[label] = deck
                    batch.append(SampleKey(epoch, index, drawn.get(index, 0)))
                    drawn[index] = drawn.get(index, 0) + 1
            yield batch


def check_batch_size(batch_size: int, num_replicas: int = 1) -> None:
    """Check that a global batch size is positive and divides evenly.

    Raises:
        ValueError: If not.
    """
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError(f"batch_size: expected a positive integer, got {batch_size!r}")
    if batch_size % num_replicas:
        raise ValueError(
            f"batch_size: expected a multiple of the {num_replicas} processes, got {batch_size};"
            " it is the global batch size, shared evenly by all processes"
        )


def _shuffle(values: Sequence[int], generator: torch.Generator) -> list[int]:
    return [values[i] for i in torch.randperm(len(values), generator=generator).tolist()]
