from collections import Counter
from itertools import chain
from pathlib import Path

import pytest

from tireid.data.datasets import TextDataset
from tireid.data.loading import Loading
from tireid.data.records import Record
from tireid.data.samplers import IdentityBalancedSampler, ShuffledSampler

LABELS = [0] * 9 + [1] * 5 + [2] * 7 + [3] * 1 + [4] * 6 + [5] * 12  # 40 pairs


def make(kind: str, *, num_replicas: int = 1, rank: int = 0, seed: int = 5):
    ranks = {"num_replicas": num_replicas, "rank": rank, "seed": seed}
    if kind == "shuffled":
        return ShuffledSampler(len(LABELS), batch_size=8, **ranks)
    return IdentityBalancedSampler(LABELS, pairs_per_id=2, batch_size=8, **ranks)


def global_batches(kind: str, num_replicas: int, epoch: int):
    shares = []
    for rank in range(num_replicas):
        sampler = make(kind, num_replicas=num_replicas, rank=rank)
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert len(keys) == len(sampler) == 40 // num_replicas
        size = 8 // num_replicas
        shares.append([keys[i : i + size] for i in range(0, len(keys), size)])
    return [list(chain(*parts)) for parts in zip(*shares, strict=True)]


@pytest.mark.parametrize("kind", ["shuffled", "balanced"])
@pytest.mark.parametrize("num_replicas", [2, 4, 8])
def test_ranks_share_the_batches_of_one_process(kind, num_replicas):
    assert global_batches(kind, num_replicas, 3) == global_batches(kind, 1, 3)


@pytest.mark.parametrize("kind", ["shuffled", "balanced"])
def test_epoch_and_seed_change_the_order_and_nothing_else_does(kind):
    sampler = make(kind)
    first = [key.pair for key in sampler]
    assert first == [key.pair for key in sampler]
    assert first != [key.pair for key in make(kind, seed=6)]
    sampler.set_epoch(1)
    assert first != [key.pair for key in sampler]
    assert {key.epoch for key in sampler} == {1}
    sampler.set_epoch(0)
    assert first == [key.pair for key in sampler]


def test_shuffle_covers_every_pair_once():
    sampler = ShuffledSampler(43, batch_size=8)
    pairs = [key.pair for key in sampler]
    assert len(pairs) == len(set(pairs)) == 40  # the last three are dropped
    assert set(pairs) < set(range(43))
    dropped = set()
    for epoch in range(30):
        sampler.set_epoch(epoch)
        dropped |= set(range(43)) - {key.pair for key in sampler}
    assert len(dropped) > 25  # others each time


def test_balanced_batches_hold_the_same_number_of_each_identity():
    for epoch in range(3):
        for batch in global_batches("balanced", 1, epoch):
            counts = Counter(LABELS[key.pair] for key in batch)
            assert list(counts.values()) == [2, 2, 2, 2]


def test_balanced_pairs_repeat_only_when_the_identity_has_too_few():
    for batch in global_batches("balanced", 1, 0):
        for label in (0, 1, 2, 4, 5):
            pairs = [key.pair for key in batch if LABELS[key.pair] == label]
            assert len(set(pairs)) == len(pairs) or LABELS.count(label) % 2
        lonely = [key for key in batch if LABELS[key.pair] == 3]
        assert len({key.pair for key in lonely}) <= 1
    # A pair drawn again has another key, and so another augmentation.
    keys = list(chain(*global_batches("balanced", 1, 0)))
    assert len(set(keys)) == len(keys)


def test_balanced_sampler_visits_identities_evenly():
    visits: Counter[int] = Counter()
    for epoch in range(60):
        for batch in global_batches("balanced", 1, epoch):
            visits.update({LABELS[key.pair] for key in batch})
    # 60 epochs x 5 batches x 4 of 6 identities: 200 each, six standard deviations of 8
    assert set(visits) == set(range(6))
    assert all(150 < count < 250 for count in visits.values())


def evaluated(num_items: int, **ranks: int):
    """Return what a rank evaluates of a split of one caption an image."""
    records = [Record(Path(f"{n}.png"), n, ("a",), image_id=n) for n in range(num_items)]
    texts = TextDataset(records, [[1]] * num_items, pad_id=0)
    loading = Loading(4, 0, 2, persistent_workers=True, cache_images=True, seed=0)
    loader = loading.evaluation(texts, 0, None, **ranks)
    return [int(index) for batch in loader for index in batch.index]


@pytest.mark.parametrize(
    ("num_items", "num_replicas"), [(13, 1), (13, 2), (13, 4), (3, 8), (16, 4)]
)
def test_evaluation_covers_every_item_on_equal_steps(num_items, num_replicas):
    shares = [
        evaluated(num_items, num_replicas=num_replicas, rank=rank) for rank in range(num_replicas)
    ]
    assert len({len(share) for share in shares}) == 1
    items = list(chain(*shares))
    assert set(items) == set(range(num_items))
    assert len(items) - num_items < num_replicas  # no more repeats than needed
    assert shares[0] == sorted(shares[0]) or num_items < num_replicas


def test_too_few_pairs():
    with pytest.raises(
        ValueError, match=r"at least batch_size=64 training pairs, got 40; set batch"
    ):
        ShuffledSampler(40, batch_size=64)


@pytest.mark.parametrize("batch_size", [0, -8, True])
def test_batch_size_is_positive(batch_size):
    with pytest.raises(ValueError, match="batch_size: expected a positive integer"):
        ShuffledSampler(40, batch_size=batch_size)


def test_batch_size_divides_among_processes():
    with pytest.raises(ValueError, match=r"a multiple of the 3 processes, got 8; .*global"):
        ShuffledSampler(40, batch_size=8, num_replicas=3)


def test_rank_is_checked():
    with pytest.raises(ValueError, match="rank: expected 0 to 1, got 2"):
        ShuffledSampler(40, batch_size=8, num_replicas=2, rank=2)
    with pytest.raises(ValueError, match="Invalid rank 2, rank should be in the interval"):
        evaluated(40, num_replicas=2, rank=2)


def test_balanced_sampler_checks_its_numbers():
    with pytest.raises(ValueError, match="pairs_per_id: expected a divisor of batch_size=8, got 3"):
        IdentityBalancedSampler(LABELS, pairs_per_id=3, batch_size=8)
    with pytest.raises(ValueError, match="pairs_per_id: expected a divisor"):
        IdentityBalancedSampler(LABELS, pairs_per_id=0, batch_size=8)
    with pytest.raises(ValueError, match=r"at least 8 identities for batch_size=8 .* got 6"):
        IdentityBalancedSampler(LABELS, pairs_per_id=1, batch_size=8)
