import json
from collections import Counter

import pytest

from tireid.data import mixed
from tireid.data.mixed import pids_by_set, read_mixed, set_names
from tireid.data.samplers import WeightedSampler
from tireid.data.sources import shared_source_warnings


@pytest.fixture
def sets(write_annotations, entries, tmp_path):
    """Return two sets with the same identity numbers and image names."""
    table = "image,caption,person,split\n" + "".join(
        f"{e['file_path']},{e['captions'][0]},{e['id']},{e['split']}\n" for e in entries
    )
    (tmp_path / "captions.csv").write_text(table)
    shop = {"layout": "custom", "root": tmp_path, "val_fraction": 0.0}
    return {"cuhk_pedes": {"root": write_annotations(entries)}, "shop": shop}


def test_identities_of_different_sets_never_collide(sets, entries):
    splits = read_mixed(sets)
    people = {(record.source, record.pid) for records in splits.values() for record in records}
    assert len(people) == len({pid for _, pid in people}) == 2 * len({e["id"] for e in entries})
    for records in splits.values():
        assert [r.image_id for r in records] == list(range(len(records)))
        assert not frozenset.intersection(*pids_by_set(records).values())
    alone = read_mixed({"shop": sets["shop"]})
    assert [r.captions for r in alone["test"]] == [r.captions for r in splits["test"][3:]]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (None, "expected data sets by name, got none"),
        ({"shop": {"layout": "mine"}}, r"sets\.shop\.layout: expected one of cuhk_pedes.*'mine'"),
        ({"custom": {"rot": "x"}}, r"sets\.custom: expected options: .*'rot'"),
    ],
)
def test_wrong_sets_are_named(change, expected):
    with pytest.raises(ValueError, match=expected):
        read_mixed(change)


def test_the_synthetic_set_may_be_among_them(sets, tmp_path, monkeypatch):
    asked = {}

    def drawn(cache_dir, **settings):
        asked.update(settings, cache_dir=cache_dir)
        return read_mixed({"shop": sets["shop"]})

    monkeypatch.setattr(mixed, "read_synthetic", drawn)
    made = {"layout": "synthetic", "num_train_ids": 8}
    splits = read_mixed({**sets, "people": made}, cache_dir=tmp_path)
    assert asked == {"num_train_ids": 8, "cache_dir": tmp_path}
    assert set(pids_by_set(splits["train"])) == {"cuhk_pedes", "shop", "people"}
    with pytest.raises(ValueError, match=r"people\.cache_dir: set paths\.cache_dir instead"):
        read_mixed({"people": made | {"cache_dir": "/elsewhere"}})


def test_sets_that_share_their_sources_are_warned_about(write_annotations, entries):
    icfg = write_annotations(entries, name="ICFG-PEDES.json", folder="ICFG-PEDES")
    renamed = [entry | {"img_path": entry["file_path"]} for entry in entries]
    write_annotations(json.dumps(renamed), name="data_captions.json", folder="RSTPReid")
    with pytest.warns(
        UserWarning, match=r"icfg_pedes and rstpreid both hold images of MSMT17 \(Di"
    ):
        read_mixed({"icfg_pedes": None, "rstpreid": None}, root=icfg.parent)
    assert shared_source_warnings([("cuhk_pedes", "icfg_pedes"), ("rstpreid", "rstpreid")]) == []


def test_the_names_of_the_sets_are_those_of_their_layouts():
    read = {"sets": {"shop": {"layout": "custom"}, "rstpreid": None}}
    assert set_names({"name": "mixed", "read": read}) == ["custom", "rstpreid"]
    assert set_names({"name": "synthetic", "read": {}}) == ["synthetic"]


def test_each_set_has_its_share_of_an_epoch_whatever_its_size():
    sources = ["a"] * 20 + ["b"] * 4
    made = {"weights": {"a": 1.0, "b": 3.0}, "batch_size": 8, "seed": 5}
    sampler = WeightedSampler(sources, **made)
    keys = list(sampler)
    assert Counter(sources[key.pair] for key in keys) == {"a": 6, "b": 18}
    times = Counter(key.pair for key in keys)
    assert {times[pair] for pair in range(20, 24)} == {4, 5}
    assert len(set(keys)) == len(keys)  # each draw is augmented anew
    assert list(WeightedSampler(sources, **made)) == keys
    shares = [list(WeightedSampler(sources, **made, num_replicas=2, rank=r)) for r in (0, 1)]
    assert shares[0][:4] + shares[1][:4] == keys[:8]
    sampler.skip(1)
    assert list(sampler) == keys[8:]
    sampler.set_epoch(1)
    assert list(sampler) != keys
    with pytest.raises(ValueError, match=r"dataset\.weights: expected a positive weight for each"):
        WeightedSampler(sources, weights={"a": 1.0}, batch_size=8)
