"""Data sets in the wrong place, under other names and in the forms of other repositories."""

import json
import shutil

import pytest


def titles(result):
    return [finding.title for finding in result.findings]


def test_a_sound_set_has_no_findings_in_the_folder_and_its_parent(data, examined):
    root = data()
    for place in (root, root.parent):
        result = examined(place)
        assert titles(result) == []
        assert result.counts["train"] == {"ids": 3, "images": 6, "captions": 6}


@pytest.mark.parametrize("level", ["imgs", "imgs/cam_a", "../..", "reid_raw.json"])
def test_a_wrong_level_of_folders_is_answered_with_the_right_one(data, examined, level):
    root = data(folder="data/CUHK")
    result = examined(root / level)
    assert result.findings[0].advice == f"set dataset.root={root}"
    assert len(result.findings) == 1
    assert result.counts["test"]["images"] == 4


def test_a_file_of_another_name_is_found_by_what_it_holds(data, examined):
    root = data(name="annotations_final.json")
    result = examined(root)
    assert "another name" in titles(result)[0]
    assert result.findings[0].advice == f"rename it to {root}/reid_raw.json"
    assert result.counts["val"]["images"] == 2


def test_images_in_another_folder_are_found(data, examined):
    root = data()
    (root / "imgs").rename(root / "pictures")
    result = examined(root)
    assert len(result.findings) == 1
    assert result.findings[0].advice == f"move that folder or link it: ln -s {root}/pictures " + (
        f"{root}/imgs"
    )


def test_images_one_level_too_deep_are_found(data, examined):
    root = data()
    (root / "imgs").rename(root / "inner")
    (root / "imgs").mkdir()
    (root / "inner").rename(root / "imgs/CUHK-PEDES")
    result = examined(root)
    assert titles(result) == [
        f"the images lie below {root}/imgs/CUHK-PEDES, and are expected below {root}/imgs"
    ]


def test_the_older_file_is_named_with_what_it_lacks_and_what_it_holds(data, entries, examined):
    for entry in entries:
        del entry["split"]
    result = examined(data(name="caption_all.json"), own=False)
    said = " ".join(titles(result))
    assert "caption_all.json in place of reid_raw.json" in said
    assert "caption_all.json lacks split; its 12 entries hold captions, file_path, id" in said
    assert any("older form" in finding.advice for finding in result.findings)
    counts = next(f for f in result.findings if "not those of the published" in f.title)
    assert counts.examples[0].startswith("all splits: expected 13,003 ids, got 6 (-12,997)")


def test_another_data_set_is_named(data, examined):
    root = data(name="ICFG_PEDES.json")
    result = examined(root)
    assert len(result.findings) == 1
    assert "this is ICFG-PEDES" in titles(result)[0]
    assert "tireid doctor icfg_pedes" in result.findings[0].advice


@pytest.mark.parametrize("name", ["ICFG-PEDES.json", "ICFG_PEDES.json"])
def test_both_names_of_icfg_pedes_are_known(data, examined, name):
    assert titles(examined(data(name=name), "icfg_pedes")) == []


def rows_of(form, entries, split):
    own = [entry for entry in entries if entry["split"] == split]
    if form == "textreid":  # a row a caption
        return {
            "annotations": [
                {k: e[k] for k in ("id", "file_path")} | {"sentence": text, "image_id": 7}
                for e in own
                for text in [*e["captions"], "and once more in a coat"]
            ]
        }
    if form == "aptm":
        return [
            {"image": f"CUHK/imgs/{e['file_path']}", "caption": e["captions"], "image_id": e["id"]}
            for e in own
        ]
    return own


@pytest.mark.parametrize(
    ("form", "name", "captions"),
    [
        ("textreid", "annotations/{}.json", 12),
        ("aptm", "cuhk_{}.json", 6),
        ("rasa", "processed_data/{}.json", 6),
        ("tbps", "{}_reid.json", 6),
    ],
)
def test_files_of_other_repositories_are_read(data, entries, examined, form, name, captions):
    root = data(name=None)
    for split in ("train", "val", "test"):
        file = root / name.format(split)
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(rows_of(form, entries, split)))
    result = examined(root)
    assert result.counts["train"] == {"ids": 3, "images": 6, "captions": captions}
    assert result.counts["val"]["ids"] == 1
    assert "one annotation file a split" in titles(result)[0]
    fields = [title for title in titles(result) if "other names of fields" in title]
    assert len(fields) == (form in ("textreid", "aptm"))
    assert all(f"{split}.json" in title for title in fields for split in ("train", "test"))
    assert not any("missing" in title or "field '" in title for title in titles(result))


def test_nothing_there_is_said_with_what_is(tmp_path, examined):
    (tmp_path / "empty/readme").mkdir(parents=True)
    result = examined(tmp_path / "empty")
    assert "no annotation file of CUHK-PEDES" in titles(result)[0]
    assert result.findings[0].examples == ("found: readme/",)
    with pytest.raises(FileNotFoundError, match="got no such folder"):
        examined(tmp_path / "nowhere")


def test_a_file_that_broke_off_is_named(data, examined):
    root = data()
    text = (root / "reid_raw.json").read_text()
    (root / "reid_raw.json").write_text(text[:100])
    (finding,) = examined(root).findings
    assert "expected valid JSON in UTF-8" in finding.title
    assert "broke off" in finding.advice


def test_a_file_that_cannot_be_read_hides_no_other_cause(data, examined):
    root = data()
    (root / "imgs").rename(root / "elsewhere")
    text = (root / "reid_raw.json").read_text()
    for content, cause in (
        (text[:-9], "is the file complete?"),
        (str(json.loads(text)), "what Python prints"),
        ("{}\n{}", "more than one value"),
    ):
        (root / "reid_raw.json").write_text(content)
        unread, images = titles(examined(root))
        assert cause in unread
        assert f"there is no folder {root / 'imgs'}" in images


def test_another_name_in_another_folder_is_both(data, examined):
    root = data(name="mine.json", folder="data/CUHK")
    name, place = titles(examined(root.parent))
    assert "another name" in name
    assert f"{root / 'mine.json'} lies elsewhere" in place


def test_no_images_at_all_is_one_cause(data, examined):
    root = data()
    shutil.rmtree(root / "imgs")
    said = titles(examined(root))
    assert f"there is no folder {root}/imgs" in said[0]


def test_a_linked_folder_is_examined_as_it_is(data, examined, tmp_path):
    root = data()
    (tmp_path / "disk").mkdir()
    (root / "imgs").rename(tmp_path / "disk/images")
    (root / "imgs").symlink_to(tmp_path / "disk/images", target_is_directory=True)
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    (root / "imgs/cam_a/1_a.png").unlink()
    assert [f.examples for f in examined(tmp_path / "link").findings if f.harms] == [
        ("cam_a/ lacks some: 1 train",)
    ]


def test_the_folder_of_another_data_set_is_named_though_the_right_one_lies_beside_it(
    data, examined
):
    data()
    other = data(name="data_captions.json", folder="RSTPReid")
    assert "this is RSTPReid" in titles(examined(other))[0]


def test_rstpreid_with_the_fields_of_cuhk_pedes_says_which(data, examined):
    result = examined(data(name="data_captions.json"), "rstpreid")
    assert titles(result) == [
        "data_captions.json has other names of fields: file_path for img_path"
    ]


def test_files_as_tbps_clip_and_rasa_have_them_are_joined(data, examined, entries):
    """One file a split, whose entries name no split; TBPS-CLIP's hold back-translated captions."""
    root = data(name=None)
    for split in ("train", "val", "test"):
        rows = [
            {key: value for key, value in entry.items() if key != "split"} | {"captions_bt": ["x"]}
            for entry in entries
            if entry["split"] == split
        ]
        (root / f"{split}_reid.json").write_text(json.dumps(rows))
    result = examined(root)
    assert {split: n["images"] for split, n in result.counts.items()} == {
        "train": 6,
        "val": 2,
        "test": 4,
    }
    (finding,) = result.harmful
    assert "one annotation file a split" in finding.title


def test_several_wrong_states_at_once_are_each_named(data, examined, entries):
    """A level too high, the older annotations, and a folder of images that did not arrive."""
    older = [{key: value for key, value in e.items() if key != "split"} for e in entries]
    root = data(name="caption_all.json", content=older, folder="unpacked/data")
    shutil.rmtree(root / "imgs/cam_b")
    found = titles(examined(root.parent))
    assert any(title.startswith("caption_all.json in place of reid_raw.json") for title in found)
    assert any("lacks split" in title for title in found)
    assert any(title.startswith("6 images missing") for title in found)


def test_what_is_still_packed_is_named(data, examined, tmp_path):
    root = data()
    shutil.rmtree(root / "imgs")
    (root / "imgs.zip").touch()
    assert examined(root).findings[0].advice == f"unpack imgs.zip in {root}"
    (root / "reid_raw.json").unlink()
    assert examined(root).findings[0].advice == "unpack imgs.zip"


def test_a_link_that_leads_nowhere_is_named(data, examined):
    root = data()
    shutil.rmtree(root / "imgs")
    for there in ("/nowhere/imgs", str(root / "imgs")):
        (root / "imgs").unlink(missing_ok=True)
        (root / "imgs").symlink_to(there)
        assert titles(examined(root))[0] == f"{root}/imgs is a link to {there}, where nothing is"


@pytest.mark.parametrize(
    ("name", "advice"),
    [("captions.tsv", "rename"), ("captions.json", "on a line of"), ("captions.xlsx", "save")],
)
def test_tables_of_other_kinds_are_named_with_what_to_do(table, examined, name, advice):
    root = table()
    (root / "captions.csv").rename(root / name)
    assert advice in examined(root, "custom").findings[0].advice


def test_images_in_several_folders_are_not_said_to_lie_in_one(table, examined):
    root = table()
    for number in range(8):
        (root / f"cam{number % 2}").mkdir(exist_ok=True)
        (root / f"{number}.png").rename(root / f"cam{number % 2}/{number}.png")
    assert titles(examined(root, "custom"))[1].startswith("8 of 8 missing images have the name")
