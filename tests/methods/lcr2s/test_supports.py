"""Supports from the batch and from the memory, against lists kept by hand."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tireid.methods.lcr2s.supports import FeatureMemory, batch_supports, drop_supports, take_slots

# Identity 7 has four images, one of them twice; 8 has two; 9 has one image, with two captions.
PIDS = torch.tensor([7, 8, 7, 9, 7, 7, 8, 9, 7, 5])
IMAGES = torch.tensor([0, 4, 1, 6, 2, 1, 5, 6, 3, 9])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def candidates(row: int) -> set[int]:
    return {
        other
        for other in range(len(PIDS))
        if PIDS[other] == PIDS[row] and IMAGES[other] != IMAGES[row]
    }


@pytest.mark.parametrize("count", [0, 1, 2, 4, 40])
def test_supports_are_other_views_of_the_identity_without_repeats(count):
    for seed in range(20):
        slots = batch_supports(PIDS, IMAGES, count, generator(seed))
        assert slots.shape == (len(PIDS), count)
        for row, drawn in enumerate(slots.tolist()):
            filled = [slot for slot in drawn if slot != -1]
            assert len(set(filled)) == len(filled) == min(count, len(candidates(row)))
            assert set(filled) <= candidates(row)


def test_every_view_is_drawn_equally_often_and_the_seed_decides():
    counts = Counter()
    for seed in range(600):
        counts.update(batch_supports(PIDS, IMAGES, 1, generator(seed))[0].tolist())
    # Anchor 0 has four candidates; 150 each, with a standard deviation of 10.6.
    assert set(counts) == {2, 4, 5, 8}
    assert all(abs(times - 150) < 45 for times in counts.values())
    first, again, other = (batch_supports(PIDS, IMAGES, 2, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_slots_become_features_and_pass_gradients_to_them():
    features = torch.randn(4, 3, requires_grad=True)
    slots = torch.tensor([[2, -1], [0, 2], [-1, -1]])
    support, valid = take_slots(features, slots)
    assert torch.equal(valid, slots >= 0)
    assert torch.equal(support[valid], features[[2, 0, 2]])
    (support * valid[..., None]).sum().backward()
    assert features.grad is not None
    assert features.grad[:, 0].tolist() == [1, 0, 2, 0]


@pytest.mark.parametrize("slots", [torch.full((2, 3), -1), torch.zeros(2, 0, dtype=torch.long)])
def test_slots_into_nothing(slots):
    support, valid = take_slots(torch.zeros(0, 5), slots)
    assert support.shape == (*slots.shape, 5)
    assert not valid.any()


def test_dropping_whole_supports_and_single_slots():
    valid = torch.arange(5) < torch.tensor([5, 3] * 2000)[:, None]
    kept = drop_supports(valid, 0.0, 0.0, generator())
    assert torch.equal(kept, valid)
    assert not drop_supports(valid, 1.0, 0.0, generator()).any()
    assert not drop_supports(valid, 0.0, 1.0, generator()).any()
    whole = drop_supports(valid, 0.4, 0.0, generator())
    lost = ~whole.any(dim=1)
    assert torch.equal(whole[~lost], valid[~lost])
    assert lost.float().mean().item() == pytest.approx(0.4, abs=0.03)  # sd 0.008
    each = drop_supports(valid, 0.0, 0.25, generator())
    assert not (each & ~valid).any()
    assert each[valid].float().mean().item() == pytest.approx(0.75, abs=0.02)  # sd 0.004
    both = drop_supports(valid, 0.4, 0.25, generator())
    assert both[valid].float().mean().item() == pytest.approx(0.6 * 0.75, abs=0.03)


class MemoryByHand:
    """Row -> (value, pid, image, step), in a dictionary."""

    def __init__(self, capacity, max_age):
        self.capacity, self.max_age, self.rows = capacity, max_age, {}

    def write(self, keys, values, pids, images, step):
        for key, value, pid, image in zip(keys, values, pids, images, strict=True):
            self.rows[key % self.capacity] = (value, pid, image, step)

    def candidates(self, pid, image, step):
        return {
            row: value
            for row, (value, other, view, written) in self.rows.items()
            if other == pid
            and view != image
            and (self.max_age is None or step - written <= self.max_age)
        }


@pytest.mark.parametrize("written", ["in order", "backwards"])  # a GPU promises no order
@pytest.mark.parametrize("max_age", [None, 2])
@pytest.mark.parametrize("capacity", [60, 17])
def test_memory_draws_what_a_dictionary_holds(capacity, max_age, written, monkeypatch):
    if written == "backwards":
        copy = torch.Tensor.index_copy_
        monkeypatch.setattr(
            torch.Tensor,
            "index_copy_",
            lambda self, dim, index, source: copy(self, dim, index.flip(0), source.flip(0)),
        )
    draws = generator(5)
    memory, by_hand = FeatureMemory(capacity, 1, max_age=max_age), MemoryByHand(capacity, max_age)
    count = 3
    for step in range(12):
        keys = torch.randperm(60, generator=draws)[:8]  # pair k: identity k // 12, image k // 2
        pids, images = keys // 12, keys // 2
        slots = memory.draw(pids, images, count, generator(step), step)
        support, valid = take_slots(memory.features, slots)
        for row in range(8):
            expected = by_hand.candidates(int(pids[row]), int(images[row]), step)
            drawn = slots[row][valid[row]].tolist()
            assert len(drawn) == len(set(drawn)) == min(count, len(expected))
            values = support[row][valid[row]].flatten().tolist()
            assert values == [expected[slot] for slot in drawn]
        features = torch.randn(8, 1, generator=draws)
        memory.write(keys, features.requires_grad_(), pids, images, step)
        by_hand.write(
            keys.tolist(), features.flatten().tolist(), pids.tolist(), images.tolist(), step
        )
    assert not memory.features.requires_grad


@pytest.mark.parametrize("settings", [{"capacity": 0}, {"capacity": 2.5}, {"max_age": 0}])
@pytest.mark.usefixtures("unchecked")
def test_sizes_of_a_memory_are_checked(settings):
    (name, value), *_ = settings.items()
    with pytest.raises(ValueError, match=rf"memory\.{name}: expected an integer > 0, got {value}"):
        FeatureMemory(**{"capacity": 12, "dim": 4} | settings)


def test_memory_outlives_a_checkpoint():
    memory = FeatureMemory(12, 4)
    memory.write(torch.arange(10), torch.randn(10, 4), PIDS, IMAGES, 3)
    other = FeatureMemory(12, 4)
    assert (other.draw(PIDS, IMAGES, 2, generator(), 4) == -1).all()
    other.load_state_dict(memory.state_dict())
    expected = memory.draw(PIDS, IMAGES, 2, generator(), 4)
    assert (expected[0] >= 0).all()
    assert torch.equal(other.draw(PIDS, IMAGES, 2, generator(), 4), expected)


def test_the_memory_of_a_frozen_teacher_does_not_age():
    """The student's steps are counted anew, and may be more than the teacher's."""
    memory = FeatureMemory(12, 4, max_age=2)
    memory.write(torch.arange(10), torch.randn(10, 4), PIDS, IMAGES, 3)
    fresh = memory.draw(PIDS, IMAGES, 2, generator(), 4)
    assert (fresh[0] >= 0).all()
    assert (memory.draw(PIDS, IMAGES, 2, generator(), 400) == -1).all()
    assert torch.equal(memory.eval().draw(PIDS, IMAGES, 2, generator(), 400), fresh)


def test_nothing_waits_for_the_device():
    """Fake tensors have no values: a step that asks for one, or for a size that follows, fails."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        features = torch.zeros(10, 4)
        slots = batch_supports(PIDS, IMAGES, 2, generator())
        support, valid = take_slots(features, slots)
        drop_supports(valid, 0.5, 0.1, generator())
        memory = FeatureMemory(12, 4, max_age=3)
        memory.write(torch.arange(10), features, PIDS, IMAGES, 3)
        memory.draw(PIDS, IMAGES, 2, generator(), 4)
    assert support.shape == (10, 2, 4)


def draw_all(rows: slice) -> dict[str, np.ndarray]:
    memory = FeatureMemory(12, 2)
    keys = torch.arange(10)[rows]
    memory.write(keys, torch.arange(20.0).view(10, 2)[rows], PIDS[rows], IMAGES[rows], 0)
    valid = torch.ones(10, 3, dtype=torch.bool)[rows]
    return {
        "batch": batch_supports(PIDS[rows], IMAGES[rows], 2, generator(1)).numpy(),
        "memory": memory.draw(PIDS[rows], IMAGES[rows], 2, generator(2), 1).numpy(),
        "features": memory.features.numpy(),
        "kept": drop_supports(valid, 0.3, 0.3, generator(3)).numpy(),
    }


def draw_own(rank: int) -> dict[str, np.ndarray]:
    return draw_all(slice(5 * rank, 5 * rank + 5))


@pytest.mark.ddp
@pytest.mark.slow
def test_two_ranks_draw_like_one(on_two_ranks):
    first, second = on_two_ranks(draw_own)
    expected = draw_all(slice(None))
    for name in ("batch", "memory", "kept"):
        np.testing.assert_array_equal(np.concatenate([first[name], second[name]]), expected[name])
    for rank in (first, second):
        np.testing.assert_array_equal(rank["features"], expected["features"])
