"""Words are masked by seed, epoch and pair alone, in the shares that are asked for."""

from collections import Counter

import pytest
import torch

from tireid.data.masking import WordMasking
from tireid.data.samplers import SampleKey
from tireid.inference.build import build_datamodule

MASKING = WordMasking(mask_id=1, first_word=4, end_word=50, num_ids=60)


def test_words_are_chosen_and_replaced_in_their_shares():
    ids = [2, *([10] * 100_000), 3]
    draws = MASKING.draw(ids, torch.Generator().manual_seed(0))
    masked, chosen = MASKING.mask(ids, *draws)
    kinds = Counter(
        "masked" if masked[p] == 1 else "kept" if masked[p] == 10 else "other" for p in chosen
    )
    assert len(chosen) / 100_000 == pytest.approx(0.15, rel=0.05)
    for kind, share in {"masked": 0.8, "other": 0.1, "kept": 0.1}.items():
        assert kinds[kind] / len(chosen) == pytest.approx(share, abs=0.01)
    assert {masked[p] for p in chosen} - {1} == set(range(4, 50))
    assert [p for p in range(len(ids)) if masked[p] != ids[p] and p not in set(chosen)] == []


def test_special_tokens_stay_and_a_caption_without_a_choice_loses_its_first_word():
    certain = ([0.0] * 4, [0.5] * 4)
    assert MASKING.mask([2, 10, 55, 3], *certain) == ([2, 1, 55, 3], [1])
    never = ([0.9] * 4, [0.5] * 4)
    assert MASKING.mask([2, 10, 11, 3], *never) == ([2, 1, 11, 3], [1])
    assert MASKING.mask([2, 3], [0.0, 0.0], [0.0, 0.0]) == ([2, 1], [1])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask_id": None}, "set them in text_encoder.words"),
        ({"end_word": 70}, "got 4, 70, 60, 1"),
        ({"probability": 1.2}, r"in \[0, 1\]"),
        ({"random_share": 0.3}, "at most 1 together"),
    ],
)
def test_values_out_of_range_are_refused(change, message):
    values = {"mask_id": 1, "first_word": 4, "end_word": 50, "num_ids": 60}
    with pytest.raises(ValueError, match=message):
        WordMasking(**(values | change))


def test_a_pair_is_masked_alike_in_any_batch_and_otherwise_in_another_epoch(
    small_config, small_data, tmp_path
):
    data = build_datamodule(small_config(tmp_path, "model=irra"))
    data.setup("fit")
    dataset = data.train_dataloader().dataset

    def masked_ids(pairs, epoch):
        batch = dataset.collate([SampleKey(epoch, pair) for pair in pairs])
        places = zip(batch.masked.rows, batch.masked.positions, strict=True)
        assert [int(batch.token_ids[place]) for place in places] == batch.masked.words.tolist()
        return [
            row[valid].tolist()
            for row, valid in zip(batch.masked.token_ids, batch.valid, strict=True)
        ]

    every = masked_ids(range(32), 0)
    assert masked_ids([7, 3], 0) == [every[7], every[3]]
    assert masked_ids(range(32), 1) != every
    without = build_datamodule(small_config(tmp_path, "model=baseline"))
    without.setup("fit")
    plain = without.train_dataloader().dataset.collate([SampleKey(0, 7)])
    assert plain.masked is None
    assert torch.equal(plain.images[0], dataset.collate([SampleKey(0, 7)]).images[0])
