import json

import pytest

from tests.forked import Command
from tireid.data.conversion import convert
from tireid.data.custom import read_custom
from tireid.data.layouts import LAYOUTS, READERS

# Captions that a table must quote, or may take for something else.
ODD = ['a "tall" man, old', "two\nlines", "a\rb", '["not", "a list"]', " spaces ", "[sic] a hat"]


@pytest.fixture
def root(write_data_set, entries):
    """Return a data set in CUHK-PEDES' layout with odd captions."""
    entries[0]["captions"] = ODD
    return write_data_set(entries)


def content(splits):
    """Return what does not depend on the place of a data set."""
    return {
        split: [(r.image_path.name, r.image_path.parent.name, *r.captions, r.pid) for r in records]
        for split, records in splits.items()
    }


@pytest.mark.parametrize("images", ["link", "copy"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_and_back_the_records_are_the_same(root, tmp_path, layout, images):
    expected = content(READERS["cuhk_pedes"](root))
    lines = convert("cuhk_pedes", root, layout, tmp_path / "there", images=images)
    assert "left out: 'processed_tokens' of 10 entries" in lines
    assert content(READERS[layout](tmp_path / "there")) == expected
    convert(layout, tmp_path / "there", "cuhk_pedes", tmp_path / "back", images=images)
    back = READERS["cuhk_pedes"](tmp_path / "back")
    assert content(back) == expected
    assert all(record.image_path.is_file() for record in back["train"])
    assert (tmp_path / "there/imgs").is_symlink() == (images == "link")


def test_names_of_persons_and_further_columns_are_counted_where_they_are_lost(tmp_path):
    (tmp_path / "captions.csv").write_text(
        "image,caption,person,split,camera\na.jpg,one,anna,train,3\na.jpg,two,anna,train,3\n"
        "b.jpg,three,ben,test,\n"
    )
    lines = convert("custom", tmp_path, "icfg_pedes", tmp_path.parent / "out", images="none")
    assert lines[1:3] == [
        "left out: 'camera' of 2 entries",
        "left out: the names of 2 persons, who are numbered in their order",
    ]
    assert lines[3].startswith("missing: 2 of 2 images")
    assert "expected in" in lines[4]
    entries = json.loads((tmp_path.parent / "out/ICFG-PEDES.json").read_text())
    assert entries[0] == {
        "split": "train",
        "id": 0,
        "file_path": "a.jpg",
        "captions": ["one", "two"],
    }
    convert("custom", tmp_path, "custom", tmp_path.parent / "again", images="link")
    assert (
        '"imgs/b.jpg","three","ben","test"' in (tmp_path.parent / "again/captions.csv").read_text()
    )
    assert content(read_custom(tmp_path.parent / "again", val_fraction=0.0)) == {
        split: [(name, tmp_path.name, *rest) for name, _, *rest in records]
        for split, records in content(read_custom(tmp_path, val_fraction=0.0)).items()
    }


def test_splits_that_a_table_lacks_are_those_of_training(tmp_path):
    rows = "".join(f"{n}.jpg,someone,{n}\n" for n in range(9))
    (tmp_path / "captions.csv").write_text(f"image,caption,person\n{rows}")
    with pytest.warns(UserWarning, match="names no splits"):
        expected = read_custom(tmp_path)
    with pytest.warns(UserWarning, match="names no splits"):
        convert("custom", tmp_path, "rstpreid", tmp_path.parent / "made", images="link")
    assert content(READERS["rstpreid"](tmp_path.parent / "made")) == content(expected)


def test_nothing_is_overwritten(root, tmp_path):
    convert("cuhk_pedes", root, "custom", root, images="none")
    with pytest.raises(FileExistsError, match=r"captions\.csv: expected no such file"):
        convert("cuhk_pedes", root, "custom", root)
    other = tmp_path / "other"
    (other / "imgs").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="imgs: expected no such folder, got one that is not"):
        convert("cuhk_pedes", root, "custom", other)
    assert [path.name for path in other.iterdir()] == ["imgs"]
    with pytest.raises(ValueError, match="not among the images"):
        convert("cuhk_pedes", root, "custom", root / "imgs/inner")


def test_images_that_cannot_be_copied_leave_nothing_behind(root, tmp_path):
    (root / "imgs/cam_a/9_0.png").unlink(missing_ok=True)
    (root / "imgs/cam_a/40_0.png").unlink()
    with pytest.raises(FileNotFoundError, match="40_0"):
        convert("cuhk_pedes", root, "rstpreid", tmp_path / "out", images="copy")
    assert not [path for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")]


def test_the_command_says_how_to_use_what_it_wrote(root, tmp_path):
    words = ["dataset", "convert", "cuhk_pedes", root, "--to", "custom", tmp_path / "out"]
    run = Command(["tireid", *words], tmp_path).finish()
    assert (run.returncode, run.stderr) == (0, "")
    assert f"dataset=custom dataset.root={tmp_path / 'out'}" in run.stdout
    again = Command(["tireid", *words], tmp_path).finish()
    assert again.returncode == 2
    assert "expected no such file" in again.stderr
