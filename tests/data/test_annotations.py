import json
import os
from pathlib import Path

import pytest

from tireid.data.cuhk_pedes import read_cuhk_pedes
from tireid.data.icfg_pedes import read_icfg_pedes
from tireid.data.records import Record, hold_out
from tireid.data.rstp_reid import read_rstp_reid


def test_reads_each_split_in_the_order_of_the_file(write_annotations, entries):
    root = write_annotations(entries)
    splits = read_cuhk_pedes(root)
    assert [r.pid for r in splits["train"]] == [70, 3, 70, 12, 3]
    assert [r.pid for r in splits["val"]] == [5, 9]
    assert [r.pid for r in splits["test"]] == [11, 40, 11]
    assert splits["train"][4] == Record(
        image_path=root / "imgs/cam_a/3_1.png",
        pid=3,
        captions=("blue jeans", "a bag on his back", "the man walks away"),
        image_id=4,
    )
    assert [r.image_id for r in splits["test"]] == [0, 1, 2]


def test_root_may_be_the_parent(write_annotations, entries):
    root = write_annotations(entries)
    assert read_cuhk_pedes(root.parent) == read_cuhk_pedes(str(root))


def test_split_is_compared_in_lower_case(write_annotations, entries):
    expected = read_cuhk_pedes(write_annotations(entries))
    for entry in entries:
        entry["split"] = entry["split"].title()
    assert read_cuhk_pedes(write_annotations(entries)) == expected


def test_captions_may_be_one_string(write_annotations, entries):
    entries[0]["captions"] = "just this"
    assert read_cuhk_pedes(write_annotations(entries))["train"][0].captions == ("just this",)


def test_byte_order_mark_is_accepted(write_annotations, entries):
    root = write_annotations("﻿" + json.dumps(entries))
    assert len(read_cuhk_pedes(root)["train"]) == 5


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("id", "12", "field 'id': expected a non-negative integer, got '12' (str)"),
        ("id", 1.0, "field 'id': expected a non-negative integer, got 1.0 (float)"),
        ("id", True, "field 'id': expected a non-negative integer, got True (bool)"),
        ("id", -1, "field 'id': expected a non-negative integer, got -1 (int)"),
        ("id", 2**63, "field 'id': expected a non-negative integer"),
        ("split", "query", "field 'split': expected one of train, val, test, got 'query' (str)"),
        ("split", None, "field 'split': expected one of train, val, test, got None (NoneType)"),
        ("captions", [], "field 'captions': expected one caption or a list of at least one"),
        ("captions", ["good", "  "], "none blank, got ['good', '  '] (list)"),
        ("captions", "", "none blank, got '' (str)"),
        ("captions", [["nested"]], "none blank, got [['nested']] (list)"),
        ("file_path", 7, "field 'file_path': expected the image's path below"),
        ("file_path", "", "field 'file_path': expected the image's path below"),
        ("file_path", "a\0b", "field 'file_path': expected the image's path below"),
        ("file_path", "/etc/passwd", "which it must not leave"),
        ("file_path", "a/\ud83d.png", "field 'file_path': expected the image's path below"),
        ("file_path", "a" * 300, "that can be followed ([Errno 36] File name too long"),
        (
            "captions",
            ["good", "a \ud83d b"],
            "no lone surrogate in it, got ['good', 'a \\ud",
        ),
        ("captions", "a" * 10_001, "field 'captions': expected text of at most 10,000 characters"),
        ("file_path", "cam_a/../../secret.png", "which it must not leave"),
    ],
)
def test_wrong_field_is_named(write_annotations, entries, field, value, expected):
    entries[3][field] = value
    root = write_annotations(entries)
    with pytest.raises(ValueError, match=r"reid_raw\.json: entry 3: ") as error:
        read_cuhk_pedes(root)
    assert expected in str(error.value)


@pytest.mark.parametrize("field", ["id", "split", "captions", "file_path"])
def test_missing_field_is_named(write_annotations, entries, field):
    del entries[7][field]
    root = write_annotations(entries)
    with pytest.raises(ValueError, match=f"entry 7: field '{field}': .* no such field; has"):
        read_cuhk_pedes(root)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"id": 1,', r"expected valid JSON .* line 1 column .*is the file complete"),
        ("", "expected valid JSON in UTF-8"),
        ({"train": []}, r"expected a JSON list .* got \{'train': \[\]\} \(dict\)"),
        ([], "expected a JSON list"),
        ([["train", 1]], r"entry 0: expected an object, got \['train', 1\] \(list\)"),
    ],
)
def test_malformed_file(write_annotations, content, expected):
    with pytest.raises(ValueError, match=expected):
        read_cuhk_pedes(write_annotations(content))


def test_a_number_of_too_many_digits_is_refused_with_the_file(write_annotations):
    with pytest.raises(ValueError, match=r"reid_raw\.json: expected valid JSON .*digits"):
        read_cuhk_pedes(write_annotations('[{"id": ' + "9" * 5000 + "}]"))


def test_a_field_that_stands_twice_is_named(write_annotations, entries):
    text = json.dumps(entries).replace('"id": 12,', '"id": 12, "id": 13,')
    with pytest.raises(ValueError, match=r"entry 4: expected every field once, got 'id' more"):
        read_cuhk_pedes(write_annotations(text))


def test_too_few_identities_to_hold_out_are_named_with_the_file(write_annotations, entries):
    kept = [entry for entry in entries if entry["split"] != "val" and entry["id"] in (70, 11)]
    with pytest.raises(ValueError, match=r"reid_raw\.json: expected enough .* got 1; give the"):
        read_cuhk_pedes(write_annotations(kept))


def test_file_that_is_not_text(write_annotations):
    root = write_annotations([])
    (root / "reid_raw.json").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ValueError, match="expected valid JSON in UTF-8"):
        read_cuhk_pedes(root)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_link_out_of_the_image_root_is_refused(write_annotations, entries, tmp_path, kind):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "70_0.png").touch()
    root = write_annotations(entries)
    if kind == "folder":
        (root / "imgs/cam_a").symlink_to(outside, target_is_directory=True)
    else:
        (root / "imgs/cam_a").mkdir()
        (root / "imgs/cam_a/70_0.png").symlink_to(outside / "70_0.png")
    with pytest.raises(ValueError, match=r"entry 0: field 'file_path': .* must not leave"):
        read_cuhk_pedes(root)


@pytest.mark.parametrize("kind", ["file", "folder", "two files"])
def test_a_link_that_leads_to_itself_is_refused_by_entry(write_annotations, entries, kind):
    root = write_annotations(entries)
    folder = root / "imgs/cam_a"
    if kind == "folder":
        folder.symlink_to(folder, target_is_directory=True)
    else:
        folder.mkdir()
        (folder / "70_0.png").symlink_to(folder / ("70_0.png" if kind == "file" else "other.png"))
        if kind == "two files":
            (folder / "other.png").symlink_to(folder / "70_0.png")
    with pytest.raises(ValueError, match=r"entry 0: field 'file_path': .* that can be followed"):
        read_cuhk_pedes(root)


def test_the_image_root_itself_may_be_a_link(write_annotations, entries, tmp_path):
    root = write_annotations(entries)
    (root / "imgs").rmdir()
    (tmp_path / "disk").mkdir()
    (root / "imgs").symlink_to(tmp_path / "disk", target_is_directory=True)
    assert read_cuhk_pedes(root)["train"][0].image_path.parent.parent == tmp_path / "disk"


def test_identity_in_two_splits_is_refused(write_annotations, entries):
    entries[2]["id"] = entries[8]["id"] = 3
    entries[9]["id"] = 70
    with pytest.raises(ValueError, match="got 2 in both train and test: 3, 70"):
        read_cuhk_pedes(write_annotations(entries))


def test_repeated_image_is_counted_not_repaired(write_annotations, entries):
    entries[3]["file_path"] = entries[0]["file_path"]
    root = write_annotations(entries)
    with pytest.warns(UserWarning, match="1 of the 5 entries of train name an image"):
        splits = read_cuhk_pedes(root)
    assert len(splits["train"]) == 5


def test_an_image_of_two_identities_or_splits_is_named_with_both_entries(write_data_set, entries):
    root = write_data_set()
    (root / "imgs/linked.png").symlink_to(root / "imgs" / entries[0]["file_path"])
    entries[2]["file_path"] = "linked.png"  # in test, under another path
    entries[4]["file_path"] = entries[1]["file_path"]
    (root / "reid_raw.json").write_text(json.dumps(entries))
    with pytest.warns(UserWarning, match="1 of the") as warned:
        read_cuhk_pedes(root)
    said = " ".join(str(warning.message) for warning in warned)
    assert "1 of the 3 entries of test name an image that one of train names: it leaks" in said
    assert "the first are entries 0 and 2" in said
    assert "1 of the 5 entries of train name an image that one of another identity names" in said
    assert "the first are entries 1 and 4" in said


@pytest.mark.parametrize(
    ("entry", "like", "message"),
    [
        (2, 0, "1 of the 3 entries of test name an image that one of train names: it leaks"),
        (4, 1, "1 of the 5 entries of train name an image that one of another identity names"),
    ],
)
def test_an_image_of_two_identities_or_splits_is_refused_by_the_configs(
    write_data_set, entries, compose_config, entry, like, message
):
    root = write_data_set()
    (root / "imgs/linked.png").symlink_to(root / "imgs" / entries[like]["file_path"])
    entries[entry]["file_path"] = "linked.png"
    (root / "reid_raw.json").write_text(json.dumps(entries))
    for name in ("cuhk_pedes", "icfg_pedes", "rstpreid"):
        cfg = compose_config(f"dataset={name}", f"dataset.root={root}")
        assert cfg.dataset.read.repeats == "refuse"
    places = f"{like} and {entry}"
    with pytest.raises(ValueError, match=rf"raw\.json: {message}.* {places};.*read\.repeats=warn"):
        read_cuhk_pedes(root, repeats="refuse")
    with pytest.raises(ValueError, match="repeats: expected refuse or warn, got 'x'"):
        read_cuhk_pedes(root, repeats="x")


def test_an_image_named_twice_for_one_identity_is_warned_about(write_annotations, entries):
    entries[3]["file_path"] = entries[0]["file_path"]
    with pytest.warns(UserWarning, match="1 of the 5 entries of train name an image"):
        read_cuhk_pedes(write_annotations(entries), repeats="refuse")


def test_excluded_identities_are_left_out(write_annotations, entries):
    splits = read_cuhk_pedes(write_annotations(entries), exclude_ids=[12, 40])
    assert [r.pid for r in splits["train"]] == [70, 3, 70, 3]
    assert [r.image_id for r in splits["train"]] == [0, 1, 2, 3]
    assert [r.pid for r in splits["test"]] == [11, 11]


def test_unknown_excluded_identity_is_an_error(write_annotations, entries):
    with pytest.raises(ValueError, match=r"exclude_ids: .* got 13"):
        read_cuhk_pedes(write_annotations(entries), exclude_ids=[12, 13])


def test_val_is_held_out_of_train_when_there_is_none(write_annotations, entries):
    root = write_annotations([e for e in entries if e["split"] != "val"])
    splits = read_cuhk_pedes(root, val_fraction=0.4)
    train, val = ({r.pid for r in splits[s]} for s in ("train", "val"))
    assert len(val) == 1  # 0.4 of three identities
    assert train | val == {70, 3, 12}
    assert not train & val
    assert [r.image_id for r in splits["val"]] == list(range(len(splits["val"])))
    assert splits == read_cuhk_pedes(root, val_fraction=0.4)


def test_val_of_the_file_is_left_alone(write_annotations, entries):
    root = write_annotations(entries)
    assert read_cuhk_pedes(root, val_fraction=0.9) == read_cuhk_pedes(root, val_fraction=0.0)


def test_no_val_when_none_is_asked_for(write_annotations, entries):
    root = write_annotations([e for e in entries if e["split"] != "val"])
    assert set(read_cuhk_pedes(root, val_fraction=0.0)) == {"train", "test"}


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_val_fraction_out_of_range(write_annotations, entries, fraction):
    with pytest.raises(ValueError, match="val_fraction: expected a number in"):
        read_cuhk_pedes(write_annotations(entries), val_fraction=fraction)


def test_hold_out_depends_on_seed_and_identity_alone():
    records = [Record(Path(f"/{i}"), i, ("a",), i) for i in range(200)]
    _, held = hold_out(records, 0.1, seed=1)
    _, again = hold_out(records[::-1], 0.1, seed=1)
    _, other = hold_out(records, 0.1, seed=2)
    pids = {r.pid for r in held}
    assert len(pids) == 20
    assert pids == {r.pid for r in again}
    assert pids != {r.pid for r in other}
    # The choice must never change: published splits hang on it.
    assert sorted(pids)[:4] == [29, 30, 38, 39]


def test_hold_out_leaves_an_identity():
    records = [Record(Path("/a"), 1, ("a",), 0), Record(Path("/b"), 1, ("b",), 1)]
    with pytest.raises(ValueError, match="hold out 1 for validation, got 1"):
        hold_out(records, 0.05, seed=0)


def test_icfg_layout(write_annotations, entries):
    entries = [e for e in entries if e["split"] != "val"]
    for name in ("ICFG-PEDES.json", "ICFG_PEDES.json"):
        root = write_annotations(entries, name=name, folder=f"{name}/ICFG-PEDES")
        splits = read_icfg_pedes(root.parent, val_fraction=0.0)
        assert [r.pid for r in splits["train"]] == [70, 3, 70, 12, 3]
        assert splits["train"][0].image_path == root / "imgs/cam_a/70_0.png"
    assert len({r.pid for r in read_icfg_pedes(root)["val"]}) == 1


def test_rstp_layout(write_annotations, entries):
    for number, entry in enumerate(entries):
        del entry["file_path"]
        entry["img_path"] = f"{number:04d}_c1_0001.jpg"
    root = write_annotations(entries, name="data_captions.json", folder="RSTPReid")
    splits = read_rstp_reid(root)
    assert [r.image_path.name[:4] for r in splits["test"]] == ["0002", "0008", "0009"]


def test_root_not_set():
    with pytest.raises(ValueError, match=r"set dataset\.root=DIR"):
        read_cuhk_pedes(None)


def test_missing_folder_shows_the_expected_tree(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        read_cuhk_pedes(tmp_path / "nowhere")
    text = str(error.value)
    assert "nowhere is not a folder" in text
    assert "reid_raw.json" in text
    assert "imgs/" in text
    assert text.endswith("found\n  nothing")


@pytest.mark.parametrize(
    ("file", "note"),
    [
        ("caption_all.json", "older form of the annotations: it lacks the split"),
        ("data_captions.json", "this is RSTPReid; use dataset=rstpreid"),
        ("ICFG-PEDES.json", "this is ICFG-PEDES; use dataset=icfg_pedes"),
        ("captions.json", "rename it to reid_raw.json"),
        ("reid_raw (1).json", "found\n  "),
    ],
)
def test_other_annotation_file_is_recognised(tmp_path, file, note):
    (tmp_path / "imgs").mkdir()
    (tmp_path / file).touch()
    with pytest.raises(FileNotFoundError) as error:
        read_cuhk_pedes(tmp_path)
    assert note in str(error.value)
    assert f"imgs/, {file}" in str(error.value) or f"{file}, imgs/" in str(error.value)


def test_deeper_annotation_file_is_pointed_at(write_annotations, entries, tmp_path):
    root = write_annotations(entries, folder="a/b")
    with pytest.raises(FileNotFoundError, match=f"set dataset.root={root}"):
        read_cuhk_pedes(tmp_path)


def test_missing_image_folder(write_annotations, entries):
    root = write_annotations(entries)
    os.rmdir(root / "imgs")  # noqa: PTH106
    with pytest.raises(FileNotFoundError, match="imgs is missing"):
        read_cuhk_pedes(root)
