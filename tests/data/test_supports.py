"""The drawing alone, over records of uneven identities, against pools found by brute force."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tireid.data.records import Record
from tireid.data.samplers import SampleKey
from tireid.data.supports import (
    SupportDrawing,
    SupportSettings,
    with_several_images,
)

# Captions of each image of each identity: one image; one caption an image (as in ICFG-PEDES); many
# images of one caption; uneven ones. The images of an identity do not stand together.
CAPTIONS = {9: [2], 4: [1, 1], 30: [1] * 12, 2: [2, 2, 2, 2, 2], 7: [3, 1, 2]}


@pytest.fixture(scope="module")
def records() -> list[Record]:
    images = [
        (turn, pid, number)
        for pid, numbers in CAPTIONS.items()
        for turn, number in enumerate(numbers)
    ]
    return [
        Record(
            Path(f"/{pid}_{turn}.jpg"),
            pid,
            tuple(f"person {pid}, image {turn}, caption {c}" for c in range(number)),
            image_id,
        )
        for image_id, (turn, pid, number) in enumerate(sorted(images))
    ]


@pytest.fixture(scope="module")
def captions(records) -> list[tuple[str, Record]]:
    """All captions with their records, in the order of the split."""
    return [(caption, record) for record in records for caption in record.captions]


def drawing(records, seed=3, **settings) -> SupportDrawing:
    return SupportDrawing(records, SupportSettings(**settings), seed)


def image_pool(records, record) -> set[int]:
    return {r.image_id for r in records if r.pid == record.pid and r.image_id != record.image_id}


def caption_pool(captions, position, exclude_same_image_text) -> set[int]:
    caption, record = captions[position]
    return {
        other
        for other, (text, r) in enumerate(captions)
        if r.pid == record.pid
        and text != caption
        and not (exclude_same_image_text and r.image_id == record.image_id)
    }


@pytest.mark.parametrize("short", ["replace", "pad", "drop"])
@pytest.mark.parametrize("exclude_same_image_text", [True, False])
@pytest.mark.parametrize("number", [1, 4])
def test_sets_are_of_the_other_images_and_captions(
    records, captions, short, exclude_same_image_text, number
):
    drawn = drawing(
        records,
        num_images=number,
        num_texts=number + 1,
        short=short,
        exclude_same_image_text=exclude_same_image_text,
    )
    for position, (_, record) in enumerate(captions):
        pools = (
            image_pool(records, record),
            caption_pool(captions, position, exclude_same_image_text),
        )
        seen: tuple[set[int], set[int]] = (set(), set())
        for epoch in range(60):
            support = drawn.for_pair(SampleKey(epoch, position))
            for members, pool, slots, found in zip(
                (support.images, support.captions), pools, (number, number + 1), seen, strict=True
            ):
                assert len(members) == slots
                full = [member for member in members if member != -1]
                assert set(full) <= pool
                # All different where the pool allows it, and else nobody is left out.
                assert len(set(full)) == min(slots, len(pool))
                if short == "pad" or not pool:
                    assert len(full) == min(slots, len(pool))
                else:
                    assert len(full) == slots
                found.update(full)
        assert seen == pools  # nobody of the pool is out of reach


def test_every_other_image_is_as_likely(records, captions):
    drawn = drawing(records, num_images=4, num_texts=2)
    position = next(p for p, (_, record) in enumerate(captions) if record.pid == 30)
    times = 1500
    images, texts = Counter(), Counter()
    for epoch in range(times):
        support = drawn.for_pair(SampleKey(epoch, position))
        images.update(support.images)
        texts.update(support.captions)
    for counts, number in ((images, 4), (texts, 2)):
        share = number / 11
        deviation = (times * share * (1 - share)) ** 0.5
        assert len(counts) == 11
        assert all(abs(n - times * share) < 4.5 * deviation for n in counts.values())


def test_what_replace_draws_again_is_not_always_the_same(records, captions):
    drawn = drawing(records, num_images=3, num_texts=0)
    position = next(p for p, (_, record) in enumerate(captions) if record.pid == 7)
    repeated = {
        Counter(drawn.for_pair(SampleKey(epoch, position)).images).most_common(1)[0][0]
        for epoch in range(30)
    }
    assert repeated == image_pool(records, captions[position][1])  # both of the two others


def test_paired_captions_are_of_the_drawn_images(records, captions):
    drawn = drawing(records, num_images=3, num_texts=3, paired=True, short="pad")
    described = set()
    for position, (_, record) in enumerate(captions):
        for epoch in range(40):
            support = drawn.for_pair(SampleKey(epoch, position))
            assert set(support.images) - {-1} <= image_pool(records, record)
            for image, caption in zip(support.images, support.captions, strict=True):
                if image == -1:
                    assert caption == -1
                else:
                    assert captions[caption][1].image_id == image
                    described.add(caption)
    # All captions get their turn but those of the identity without other images.
    assert described == {p for p, (_, record) in enumerate(captions) if record.pid != 9}


def test_unpaired_captions_are_not_tied_to_the_images(records, captions):
    drawn = drawing(records, num_images=1, num_texts=1)
    position = next(p for p, (_, record) in enumerate(captions) if record.pid == 30)
    pairs = set()
    for epoch in range(60):
        support = drawn.for_pair(SampleKey(epoch, position))
        pairs.add(support.images[0] == captions[support.captions[0]][1].image_id)
    assert pairs == {True, False}


def test_a_draw_hangs_on_seed_epoch_pair_and_repeat_alone(records, captions):
    position = len(captions) - 1
    settings = {"num_images": 6, "num_texts": 6}
    assert captions[position][1].pid == 30
    drawn = drawing(records, **settings)
    first = drawn.for_pair(SampleKey(5, position))
    for epoch in range(5):  # whatever was drawn before
        drawn.for_pair(SampleKey(epoch, 0))
    assert drawn.for_pair(SampleKey(5, position)) == first
    others = [
        drawn.for_pair(SampleKey(6, position)),
        drawn.for_pair(SampleKey(5, position, repeat=1)),
        drawing(records, seed=4, **settings).for_pair(SampleKey(5, position)),
    ]
    assert all(other != first for other in others)


def test_the_number_of_images_does_not_change_the_captions(records, captions):
    few = drawing(records, num_images=1, num_texts=3)
    many = drawing(records, num_images=4, num_texts=3)
    for position in range(len(captions)):
        key = SampleKey(0, position)
        assert few.for_pair(key).captions == many.for_pair(key).captions
        assert few.for_pair(key).images == many.for_pair(key).images[:1]


def test_another_entry_of_the_anchors_file_is_no_other_image(records):
    (first,) = [record for record in records if record.pid == 9]
    twin = replace(first, image_id=len(records), captions=("the same picture",))
    drawn = drawing([*records, twin], num_images=2, num_texts=2)
    position = sum(len(record.captions) for record in records)
    assert drawn.for_pair(SampleKey(0, position)) == ((-1, -1), (-1, -1))
    assert twin not in with_several_images([*records, twin])


def test_identities_with_one_image_are_found(records):
    kept = with_several_images(records)
    assert kept == [record for record in records if record.pid != 9]


@pytest.mark.parametrize("paired", [False, True])
def test_a_split_has_one_draw_for_every_image_and_caption(records, captions, paired):
    settings = {"num_images": 3, "num_texts": 3, "short": "pad", "paired": paired}
    supports = drawing(records, **settings).for_split()
    assert supports.images.shape == (len(records), 3)
    assert supports.texts.shape == (len(captions), 3)
    for record, members in zip(records, supports.images.tolist(), strict=True):
        pool = image_pool(records, record)
        assert set(members) - {-1} <= pool
        assert members.count(-1) == max(0, 3 - len(pool))
    for position, members in enumerate(supports.texts.tolist()):
        pool = caption_pool(captions, position, exclude_same_image_text=True)
        images = image_pool(records, captions[position][1])
        full = [member for member in members if member != -1]
        assert set(full) <= pool
        assert len(full) == min(3, len(images) if paired else len(pool))
        if paired:  # one caption of each of as many images
            assert len({captions[member][1].image_id for member in full}) == len(full)
    again = drawing(records, **settings).for_split()
    assert again.images.equal(supports.images)
    assert again.texts.equal(supports.texts)
    other = drawing(records, seed=4, **settings).for_split()
    assert not other.images.equal(supports.images)
    assert not other.texts.equal(supports.texts)


def test_no_slots_at_all(records, captions):
    drawn = drawing(records, num_images=0, num_texts=0)
    assert drawn.for_pair(SampleKey(0, 0)) == ((), ())
    supports = drawn.for_split()
    assert supports.images.shape == (len(records), 0)
    assert supports.texts.shape == (len(captions), 0)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_images": -1}, r"supports\.num_images: expected an integer >= 0, got -1"),
        ({"num_texts": 1.5}, r"supports\.num_texts: expected an integer >= 0, got 1\.5"),
        ({"num_texts": True}, r"supports\.num_texts: expected an integer >= 0, got True"),
        ({"short": "repeat"}, r"supports\.short: expected one of replace, pad, drop, got 'repeat'"),
        ({"paired": "yes"}, r"supports\.paired: expected true or false, got 'yes'"),
        ({"paired": True, "num_texts": 3}, r"supports\.paired: .* got 3 and 2"),
        (
            {"paired": True, "exclude_same_image_text": False},
            r"supports\.exclude_same_image_text: expected true with supports\.paired=true",
        ),
    ],
)
def test_settings_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        SupportSettings(**({"num_images": 2, "num_texts": 2} | changes))
