import pytest
import torch

from tireid.data.caption_augmentation import CaptionAugmentation
from tireid.data.samplers import CoveringSampler

CLIP = CaptionAugmentation(0.2, mask_id=49405, first_word=1, end_word=49405)


def official(ids, draws, others):
    """RDE's rule, a position at a time: mask, replace or delete; the rest moves up."""
    found = []
    for place, piece in enumerate(ids):
        share = float(draws[place]) / 0.2
        if not 0 < piece < 49405 or share >= 1:
            found.append(piece)
        elif share < 0.6:
            found.append(49405)
        elif share < 0.8:
            found.append(others[place])
    return found


def test_given_draws_change_a_caption_as_in_the_official_code():
    generator = torch.Generator().manual_seed(0)
    for length in range(2, 77):
        ids = [49406, *torch.randint(0, 49406, (length - 2,), generator=generator).tolist(), 49407]
        draws = torch.rand(length, generator=generator) * 0.4
        others = torch.randint(1, 49405, (length,), generator=generator).tolist()
        assert CLIP.changed(ids, draws, others) == official(ids, draws, others)


def test_shares_are_those_of_the_rule_and_special_ids_stay():
    ids = [49406, 0, *[7] * 20_000, 49407]
    found = CLIP(ids, torch.Generator().manual_seed(1))
    assert (found[0], found[1], found[-1]) == (49406, 0, 49407)
    kept, masked = found.count(7) / 20_000, found.count(49405) / 20_000
    deleted = 1 - (len(found) - 3) / 20_000
    assert (kept, masked, deleted) == pytest.approx((0.8, 0.12, 0.04), abs=0.01)
    assert found == CLIP(ids, torch.Generator().manual_seed(1))


def test_ids_that_are_no_vocabulary_are_named():
    with pytest.raises(ValueError, match=r"text_encoder\.words: expected 0 <= first_word"):
        CaptionAugmentation(0.2, 1, 9, 4)


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_a_covering_sampler_reaches_every_pair_in_full_batches(replicas):
    samplers = [
        CoveringSampler(21, batch_size=8, num_replicas=replicas, rank=rank, seed=3)
        for rank in range(replicas)
    ]
    for sampler in samplers:
        sampler.set_epoch(-1)
    shares = [list(sampler) for sampler in samplers]
    assert {len(share) for share in shares} == {len(samplers[0])} == {24 // replicas}
    size = 8 // replicas
    batches = [
        [key.pair for share in shares for key in share[size * n : size * (n + 1)]] for n in range(3)
    ]
    alone = CoveringSampler(21, batch_size=8, seed=3)
    alone.set_epoch(-1)
    assert [pair for batch in batches for pair in batch] == [key.pair for key in alone]
    assert {pair for batch in batches for pair in batch} == set(range(21))
    assert batches[2][5:] == batches[0][:3]
