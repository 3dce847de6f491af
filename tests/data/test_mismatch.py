import re
from pathlib import Path

import numpy as np
import pytest

from tireid.data.mismatch import mismatched
from tireid.data.records import Record

RECORDS = [
    Record(
        Path(f"{image}.png"), image // 2, tuple(f"{image}.{n}" for n in range(1 + image % 3)), image
    )
    for image in range(40)
]
CAPTIONS = [caption for record in RECORDS for caption in record.captions]


def test_a_share_of_the_pairs_exchange_captions_and_nothing_else_changes():
    found = mismatched(RECORDS, 0.5, seed=1)
    captions = [caption for record in found for caption in record.captions]
    assert sorted(captions) == sorted(CAPTIONS)
    moved = sum(a != b for a, b in zip(captions, CAPTIONS, strict=True))
    assert 0.4 * len(captions) < moved <= round(0.5 * len(captions))
    for record, original in zip(found, RECORDS, strict=True):
        assert len(record.captions) == len(original.captions)
        assert (record.image_path, record.pid) == (original.image_path, original.pid)
    assert mismatched(RECORDS, 0.5, seed=1) == found
    assert mismatched(RECORDS, 0.5, seed=2) != found


def test_a_file_says_whose_caption_each_pair_takes(tmp_path):
    order = np.random.default_rng(0).permutation(len(CAPTIONS))
    np.save(tmp_path / "set_0.5.npy", order)
    found = mismatched(RECORDS, str(tmp_path / "set_0.5.npy"), seed=1)
    captions = [caption for record in found for caption in record.captions]
    assert captions == [CAPTIONS[number] for number in order]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.arange(5), f"expected whole numbers, one for each of {len(CAPTIONS)} pairs, got int64"),
        (np.zeros(len(CAPTIONS)), "expected whole numbers, .* pairs, got float64"),
        (np.zeros(len(CAPTIONS), dtype=int), "expected each number of 0 to"),
        (np.array([object()]), "expected an array of numpy"),
    ],
)
def test_another_file_is_refused_and_named(tmp_path, content, message):
    file = tmp_path / "noise.npy"
    np.save(file, content)
    with pytest.raises(ValueError, match=f"{re.escape(str(file))}: {message}"):
        mismatched(RECORDS, str(file), seed=1)


def test_what_is_no_share_and_no_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"noise: expected a number in \[0, 1\], got 1\.5"):
        mismatched(RECORDS, 1.5, seed=1)
    with pytest.raises(FileNotFoundError, match="noise: expected a share or a file of numpy"):
        mismatched(RECORDS, str(tmp_path / "none.npy"), seed=1)
