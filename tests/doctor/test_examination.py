"""Damaged entries, images and captions: each is named with its numbers and what to do."""

import shutil

import pytest
from PIL import Image

from tireid.data.cuhk_pedes import read_cuhk_pedes
from tireid.data.images import verify_images
from tireid.data.tokenizers import TrainedWordPiece
from tireid.doctor import layouts
from tireid.doctor.layouts import Published


def found(result, words):
    """Return the one finding whose title holds some words."""
    (finding,) = [finding for finding in result.findings if words in finding.title]
    return finding


def test_missing_folders_are_named_with_what_each_split_loses(data, examined):
    root = data()
    shutil.rmtree(root / "imgs/cam_a")
    (root / "imgs/cam_b/5_b.png").unlink()
    finding = found(examined(root), "missing below")
    assert "7 images missing" in finding.title
    assert "3 of 6 of train, 1 of 2 of val, 3 of 4 of test" in finding.title
    assert finding.examples == (
        "cam_a/ is missing: 3 train, 1 val, 2 test",
        "cam_b/ lacks some: 1 test",
    )


@pytest.mark.parametrize("damage", ["empty", "cut", "text"])
def test_images_that_cannot_be_read_are_counted_and_named(data, examined, damage):
    root = data()
    path = root / "imgs/cam_a/1_a.png"
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"no image"}[damage])
    finding = found(examined(root), "cannot be read")
    assert finding.title.startswith("1 of 12 images")
    assert finding.examples[0].startswith("cam_a/1_a.png: expected a readable image")
    assert finding.harms


def test_copies_leak_between_splits_and_contradict_as_to_identity(data, examined):
    root = data()
    images = root / "imgs"
    shutil.copy(images / "cam_a/1_a.png", images / "cam_b/5_b.png")
    shutil.copy(images / "cam_a/2_a.png", images / "cam_b/3_b.png")
    shutil.copy(images / "cam_a/6_a.png", images / "cam_b/6_b.png")
    result = examined(root)
    leak = found(result, "the same file twice, once in train and once in test: 1 pair")
    assert leak.examples == ("cam_a/1_a.png and cam_b/5_b.png",)
    assert leak.harms
    assert found(result, "the same file twice, of two identities of train: 1 pair").harms
    assert not found(result, "the same file twice, of one identity of test: 1 pair").harms


def test_a_copy_that_was_saved_again_is_a_near_copy(data, examined):
    root = data()
    with Image.open(root / "imgs/cam_a/1_a.png") as image:
        image.save(root / "imgs/cam_b/4_b.png", "JPEG", quality=85)
    finding = found(examined(root), "nearly the same image twice, once in train and once in val")
    assert finding.examples == ("cam_a/1_a.png and cam_b/4_b.png",)
    assert not finding.harms


def test_entries_are_refused_by_the_rules_of_training_and_counted_by_reason(
    data, entries, examined
):
    entries[0]["captions"] = ["  "]
    entries[1]["captions"] = []
    entries[2]["id"] = "2b"
    entries[3]["file_path"] = "../../etc/passwd"
    entries[4] = 5
    result = examined(data())
    blank = found(result, "field 'captions'")
    assert blank.title.startswith("2 of 12 entries: field 'captions': expected one caption")
    assert blank.examples[0].startswith("entry 0: ")
    assert found(result, "field 'id': expected a non-negative integer").harms
    assert found(result, "which it must not leave")
    assert found(result, "1 of 12 entries: expected an object")
    assert result.counts["train"]["images"] == 1


def test_an_identity_in_two_splits_is_a_problem_and_a_single_image_is_none(data, entries, examined):
    entries[0]["id"] = 5
    result = examined(data())
    finding = found(result, "1 identity in both train and test")
    assert finding.harms
    assert finding.examples == ("5",)
    single = found(result, "2 identities of train with one image")
    assert not single.harms
    assert single.examples == ("1, 5",)


def test_an_image_that_two_identities_name_is_a_problem(data, entries, examined):
    entries[2]["file_path"] = "cam_a/./1_a.png"
    finding = found(examined(data()), "name an image that one of another identity names")
    assert finding.harms
    assert "entries 0 and 2" in finding.title


def test_captions_shared_odd_and_short_are_counted(data, entries, examined):
    entries[0]["captions"] = ["A man  in blue."]
    entries[4]["captions"] = ["a man in blue."]
    entries[6]["captions"] = ["a woman \u7ea2\u8272 in red"]
    entries[7]["captions"] = ["<b>bold</b> person in a coat"]
    entries[8]["captions"] = ["person"]
    entries[9]["captions"] = ["a café waiter \u2013 he\u2019s in black"]
    result = examined(data())
    assert found(result, "1 caption on several identities").examples[0].startswith("2 identities")
    assert found(result, "1 caption with CJK characters")
    assert found(result, "1 caption with what looks like code")
    assert found(result, "1 caption of one or two words")
    assert result.harmful == []


def test_captions_beyond_each_text_length_are_counted(data, entries, examined):
    entries[0]["captions"] = [" ".join(["coat"] * 90)]
    cuts = {cut.length: cut.cut for cut in examined(data()).cuts if cut.split == "train"}
    assert cuts == {100: 0, 77: 1, 64: 1}


def test_paths_as_on_windows_are_read_and_named(data, entries, examined):
    for entry in entries:
        entry["file_path"] = entry["file_path"].replace("/", "\\")
    (finding,) = examined(data()).findings
    assert finding.title == "12 paths written with \\, as on Windows"


def test_counts_are_compared_with_the_published_ones(data, examined):
    finding = found(examined(data(), own=False), "not those of the published data set")
    assert finding.examples[0].startswith("train: expected 11,003 ids, got 3 (-11,000)")
    assert len(finding.examples) == 3


def test_the_other_release_is_recognised_by_its_counts(data, examined, monkeypatch):
    counts = {
        split: {"ids": ids, "images": 2 * ids, "captions": 2 * ids}
        for split, ids in (("train", 3), ("val", 1), ("test", 2))
    }
    declared = {**counts, "train": {"ids": 4, "images": 8, "captions": 8}}
    both = Published(declared, {"the release before": counts}, "")
    monkeypatch.setattr("tireid.doctor.examination.published", lambda _: both)
    finding = found(examined(data(), own=False), "the counts are those of the release before")
    assert finding.harms
    assert "do not compare" in finding.advice


def test_both_releases_of_rstpreid_are_published():
    known = layouts.published("rstpreid")
    assert known.counts["train"]["ids"] == 3701
    assert known.other_releases["the release before 2022-10-17"]["train"]["ids"] == 3901


def test_a_second_run_decodes_nothing_and_neither_does_the_training(
    data, examined, tmp_path, monkeypatch
):
    root = data()
    examined(root)
    decoded = []
    monkeypatch.setattr("tireid.doctor.images.decode", decoded.append)
    monkeypatch.setattr("tireid.data.images.decode", decoded.append)
    result = examined(root)
    splits = read_cuhk_pedes(root)
    paths = [record.image_path for records in splits.values() for record in records]
    verify_images(paths, tmp_path / "memory")
    assert decoded == []
    assert result.findings == []


def test_a_changed_image_is_decoded_again(data, examined):
    root = data()
    assert examined(root).findings == []
    (root / "imgs/cam_a/1_a.png").write_bytes(b"no image")
    assert found(examined(root), "1 of 12 images cannot be read")


def test_a_sound_table_of_ones_own_is_sound(table, examined):
    result = examined(table(), "custom", own=False)
    assert result.findings == []
    assert result.counts["train"] == {"ids": 2, "images": 4, "captions": 4}


def test_a_table_of_ones_own_is_examined_by_lines(table, examined):
    def change(text):
        return text.replace("1.png,", "1.png,a,").replace("anna,train", "anna,dev", 1)

    result = examined(table(change), "custom")
    titles = [f"{finding.title} {finding.examples}" for finding in result.harmful]
    assert any("expected 5 cells" in title and "line 3" in title for title in titles)
    assert any("field 'split'" in title and "line 2" in title for title in titles)
    fixed = result.corrected.text.splitlines()
    assert fixed[:2] == [
        '"image","caption","person","split"',
        '"2.png","someone in a coat of kind 2","ben","train"',
    ]
    assert len(result.corrected.changes) == 2


def test_a_table_under_another_name_or_without_splits_or_columns(table, examined):
    (finding,) = examined(table(name="people.csv"), "custom").harmful
    assert "another name" in finding.title
    assert finding.advice.endswith("captions.csv")
    root = table(lambda text: text.replace("person", "persn", 1))
    (finding,) = examined(root, "custom").harmful
    assert "did you mean person by persn?" in finding.title
    root = table(lambda text: text.replace("split", "part", 1))
    (finding,) = (f for f in examined(root, "custom").findings if "split" in f.title)
    assert not finding.harms
    (finding,) = examined(root, "cuhk_pedes").harmful
    assert "use dataset=custom" in finding.advice


def test_what_captions_name_and_which_words_are_unknown_is_told(data, entries, examined, tmp_path):
    for entry in entries:
        entry["captions"] = ["A woman wears a red coat.", "Xylophone zither xylophone."]
    root = data()
    words = examined(root).words
    assert words.captions == 24
    assert words.named == {"sex": 50.0, "upper_type": 50.0, "upper_color": 50.0}
    assert words.examples == {"xylophone": 24, "zither": 12}
    assert words.unknown == pytest.approx(100 * 3 / 9)
    tokenizer = TrainedWordPiece()
    tokenizer.fit(["a woman wears a xylophone"] * 50)
    tokenizer.save(tmp_path / "run/tokenizer")
    words = examined(root, model=tmp_path / "run").words
    assert words.vocabulary == str(tmp_path / "run")
    assert set(words.examples) == {"red", "coat", "zither"}
    with pytest.raises(FileNotFoundError, match="tokenizer"):
        examined(root, model=tmp_path)


@pytest.mark.parametrize(
    ("change", "title"),
    [
        (lambda e: e.update(id=str(e["id"])), "12 identity numbers written as text"),
        (lambda e: e.update(id=float(e["id"])), "12 identity numbers written with a decimal point"),
        (
            lambda e: e.update(file_path=f"/data/me/CUHK-PEDES/imgs/{e['file_path']}"),
            "12 paths beginning with imgs/ or what stands before it",
        ),
    ],
)
def test_habits_of_other_files_are_named_once_and_mended(data, entries, examined, change, title):
    for entry in entries:
        change(entry)
    result = examined(data())
    (finding,) = result.findings
    assert finding.title == title
    assert "--fix" in finding.advice
    assert (result.corrected.kept, result.corrected.changes) == (12, [])


def test_files_that_may_be_meant_by_missing_ones_are_named(data, examined):
    root = data()
    (root / "imgs/cam_a/1_a.png").rename(root / "imgs/cam_a/1_a.jpg")
    (root / "imgs/cam_a/2_a.png").rename(root / "imgs/cam_a/2_A.PNG")
    (root / "imgs/cam_a/3_a.png").rename(root / "imgs/3_a.png")
    titles = [finding.title for finding in examined(root).findings]
    assert [title.partition("images ")[2] for title in titles[1:]] == [
        "have another ending than a file",
        "differ from a file in capital letters",
        "have the name of a file in another folder",
    ]


def test_other_content_than_an_image_is_named(data, examined):
    root = data()
    (root / "imgs/cam_a/1_a.png").write_text("<!DOCTYPE html><html>quota</html>")
    (root / "imgs/cam_a/2_a.png").write_text("version https://git-lfs.github.com/spec/v1\n")
    finding = found(examined(root), "cannot be read")
    assert "a web page" in finding.examples[0]
    assert "git lfs pull" in finding.examples[1]


def test_tables_of_each_split_are_read_as_one_and_two_tables_are_a_problem(table, examined):
    root = table()
    head, *rows = (root / "captions.csv").read_text().splitlines()
    for split in ("train", "val", "test"):
        own = [row for row in rows if f",{split}," in row]
        text = "\n".join([head, *own]).replace(",split", ",part").replace(f",{split},", ",,")
        (root / f"{split}.csv").write_text(text)
    (root / "captions.csv").unlink()
    result = examined(root, "custom")
    assert {split: n["images"] for split, n in result.counts.items()} == {
        "train": 4,
        "val": 2,
        "test": 2,
    }
    table()
    table(name="captions.jsonl")
    found(examined(root, "custom"), "two tables in ")


def test_rows_that_are_there_twice_are_a_note(table, examined):
    root = table(lambda text: text + text.splitlines()[1] + "\n")
    finding = found(examined(root, "custom"), "1 image with one caption twice")
    assert not finding.harms


def test_a_folder_that_is_endless_is_not_looked_through(data, examined, monkeypatch):
    root = data()
    (root / "imgs/cam_a/1_a.png").rename(root / "imgs/cam_a/1_a.jpg")
    monkeypatch.setattr("tireid.doctor.missing._SECONDS", -1)
    (finding,) = examined(root).findings
    assert finding.title.startswith("1 image missing")
