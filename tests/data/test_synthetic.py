import pytest

from tireid.data.synthetic import read_synthetic
from tireid.files import resolve_cache_dir

SMALL = {
    "num_train_ids": 3,
    "num_val_ids": 1,
    "num_test_ids": 2,
    "images_per_id": 2,
    "captions_per_image": 2,
    "progress": False,
}


@pytest.mark.parametrize(
    ("layout", "captions"), [("cuhk_pedes", 2), ("icfg_pedes", 1), ("rstpreid", 2)]
)
def test_made_world_is_read_in_every_layout(tmp_path, layout, captions):
    splits = read_synthetic(tmp_path, layout=layout, **SMALL)
    assert {split: len({r.pid for r in records}) for split, records in splits.items()} == {
        "train": 3,
        "val": 1,
        "test": 2,
    }
    for records in splits.values():
        assert all(len(r.captions) == captions and r.image_path.is_file() for r in records)
        assert len(records) == 2 * len({r.pid for r in records})
    made = {path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.is_file()}
    assert read_synthetic(tmp_path, layout=layout, **SMALL) == splits
    assert made == {path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.is_file()}


def test_world_seed_selects_the_people(tmp_path):
    first, second = (read_synthetic(tmp_path, world_seed=seed, **SMALL) for seed in (0, 1))
    assert [r.captions for r in first["test"]] != [r.captions for r in second["test"]]


def test_cache_defaults_to_that_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert resolve_cache_dir(None) == tmp_path / "tireid"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(resolve_cache_dir(None)) == "/home/someone/.cache/tireid"
    assert resolve_cache_dir("~/here") == resolve_cache_dir("/home/someone/here")
