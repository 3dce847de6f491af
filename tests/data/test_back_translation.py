"""Captions translated into another language and back: read, kept and taken in training."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from tireid.data.caption_augmentation import BackTranslation
from tireid.data.conversion import convert
from tireid.data.cuhk_pedes import read_cuhk_pedes
from tireid.data.custom import read_custom
from tireid.data.datamodule import TireidDataModule
from tireid.data.layouts import LAYOUTS, READERS
from tireid.data.mismatch import mismatched
from tireid.data.records import Record, translations_of
from tireid.data.tokenizers import TrainedWordPiece
from tireid.data.transforms import keyed_generator


def back(caption):
    return f"back from {caption}"


@pytest.fixture
def root(write_data_set, entries):
    """Return a data set whose captions are translated, but for those of some images, or one."""
    for number, entry in enumerate(entries):
        if number % 3:
            entry["captions_bt"] = [back(caption) for caption in entry["captions"]]
    entries[1]["captions_bt"][0] = " "
    return write_data_set(entries)


@pytest.fixture
def made(root, tmp_path):
    """Return a function that makes the data set's module, set up for training."""

    def make(read=read_cuhk_pedes, **options):
        data = TireidDataModule(
            partial(read, root=root),
            TrainedWordPiece(vocab_size=200, max_length=20),
            (12, 6),
            (0.5,) * 3,
            (0.5,) * 3,
            batch_size=2,
            num_workers=0,
            cache_dir=tmp_path / "cache",
            **options,
        )
        data.setup("fit")
        return data

    return make


def texts(loader):
    """Return the token ids of each pair, by its number."""
    return {
        int(index): ids[valid].tolist()
        for batch in loader
        for ids, valid, index in zip(batch.token_ids, batch.valid, batch.index, strict=True)
    }


def test_each_caption_has_its_translation_and_missing_ones_are_empty(root):
    splits = read_cuhk_pedes(root)
    records = {record.captions[0]: record for records in splits.values() for record in records}
    assert records["a woman in red"].translations == ()
    assert records["a woman in red"].translated() == ("", "")
    assert records["a man in blue jeans"].translations == ("", back("he carries a backpack"))
    assert records["a boy in yellow"].translations[0] == back("a boy in yellow")


@pytest.mark.parametrize("wrong", [["one"], 3, [1, 2], ["a", "\ud800"], ["a", "b" * 10_001]])
def test_what_is_no_text_for_each_caption_is_named(write_annotations, entries, wrong):
    entries[0]["captions_bt"] = wrong
    message = r"entry 0: field 'captions_bt': expected a text for each of 2 captions"
    with pytest.raises(ValueError, match=message):
        read_cuhk_pedes(write_annotations(entries))


def test_a_table_has_them_in_a_column(tmp_path):
    (tmp_path / "captions.csv").write_text(
        "image,caption,caption_bt,person,split\na.jpg,one,,p,train\na.jpg,two,deux,p,train\n"
        'b.jpg,"[""three"", ""four""]","["""", ""quatre""]",q,train\nc.jpg,five,,r,train\n'
    )
    records = read_custom(tmp_path, val_fraction=0.0)["train"]
    assert [record.translations for record in records] == [("", "deux"), ("", "quatre"), ()]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_conversions_keep_them(root, tmp_path, layout):
    expected = translations_of(read_cuhk_pedes(root)["train"])
    assert any(expected)
    lines = convert("cuhk_pedes", root, layout, tmp_path / "there")
    assert not any("captions_bt" in line for line in lines)
    assert translations_of(READERS[layout](tmp_path / "there")["train"]) == expected
    convert(layout, tmp_path / "there", "cuhk_pedes", tmp_path / "back")
    entries = json.loads((tmp_path / "back/reid_raw.json").read_text())
    assert sum("captions_bt" in entry for entry in entries) == 6


def test_exchanged_captions_take_them_along():
    captions = [(f"{n}.a", f"{n}.b") for n in range(20)]
    records = [Record(Path("x"), n, c, n, "", tuple(map(back, c))) for n, c in enumerate(captions)]
    found = mismatched(records, 0.9, seed=1)
    assert found != records
    assert all(r.translations == tuple(map(back, r.captions)) for r in found)


def test_they_are_taken_with_their_probability_and_where_there_is_one():
    take = BackTranslation([[7], []], 0.25)
    drawn = [take(0, [1], keyed_generator(0, index)) for index in range(2000)]
    assert 440 < sum(ids == [7] for ids in drawn) < 560
    assert all(take(1, [1], keyed_generator(0, index)) == [1] for index in range(50))


def test_training_takes_them_and_nothing_else_does(made):
    data = made(back_translation=1.0)
    records = data.records("train")
    plain = data.tokenizer([c for record in records for c in record.captions])
    given = translations_of(records)
    translated = data.tokenizer(given)
    wanted = {n: ids if given[n] else plain[n] for n, ids in enumerate(translated)}
    found = texts(data.train_dataloader())
    assert found == {n: wanted[n] for n in found}
    assert found != {n: plain[n] for n in found}
    assert texts(data.training_pass(0, augmented=True)) == wanted
    assert texts(data.training_pass(0, augmented=False)) == dict(enumerate(plain))
    assert back("a girl with a white skirt") in data.records("val")[0].translations
    first = data.val_dataloader()[0].dataset.collate([0])
    assert first.token_ids[0].tolist() == data.tokenizer(["a girl with a white skirt"])[0]


def test_without_the_setting_all_is_as_without_the_field(made, entries, write_data_set):
    with_field, batches = made(), list(made().train_dataloader())
    fingerprint = with_field.fingerprints()
    assert made(back_translation=0.5).fingerprints()["train"] != fingerprint["train"]
    for entry in entries:
        entry.pop("captions_bt", None)
    write_data_set(entries)
    without = made()
    assert without.fingerprints() == fingerprint
    assert without.tokenizer.fingerprint() == with_field.tokenizer.fingerprint()
    for one, other in zip(without.train_dataloader(), batches, strict=True):
        assert torch.equal(one.token_ids, other.token_ids)
        assert torch.equal(one.images, other.images)
    with pytest.raises(ValueError, match=r"back_translation=0\.5: expected translations of train"):
        made(back_translation=0.5)
