"""The command: its exit code, its screen and its report."""

import hashlib
import json
import sys

import pytest

from tireid.cli import doctor


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Return a function to the exit code and the output of `tireid doctor ARGUMENTS`."""

    def command(*arguments):
        words = ["tireid doctor", *map(str, arguments), "--cache", str(tmp_path / "cache")]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as exit_:
            doctor.main()
        shown = capsys.readouterr()
        return exit_.value.code, shown.out, shown.err

    return command


def test_a_sound_set_ends_with_0_and_its_counts(run, data):
    root = data()
    sha256 = hashlib.sha256((root / "reid_raw.json").read_bytes()).hexdigest()
    code, out, err = run("cuhk_pedes", root, "--own")
    assert (code, err) == (0, "")
    assert f"SHA-256 {sha256[:16]}" in out
    assert "train: 3 ids, 6 images, 6 captions" in out
    assert "captions cut, by the text length in word pieces: 0.0 % at 100" in out
    assert out.endswith("nothing wrong was found\n")


def test_problems_end_with_1_on_one_screen_the_worst_first(run, data, entries):
    for entry in entries:
        entry["captions"] = ["coat", "\u7ea2", "{x}", "\x07"]
    entries[0]["id"] = 5
    code, out, _ = run("cuhk_pedes", data())
    lines = out.splitlines()
    assert code == 1
    assert len(lines) <= 40
    kinds = [line.split(":")[0] for line in lines if line.startswith(("problem:", "note:"))]
    assert kinds == sorted(kinds, reverse=True)
    assert "\x07" not in out
    assert "2 problems that lose data or would falsify results" in out


def test_no_data_set_ends_with_2(run, tmp_path):
    code, out, err = run("cuhk_pedes", tmp_path / "nowhere")
    assert (code, out) == (2, "")
    assert "error: " in err
    assert "got no such folder" in err
    assert run("market", tmp_path)[0] == 2
    assert run("cuhk_pedes", tmp_path, "--images")[0] == 2


@pytest.mark.parametrize("asked", [False, True])
def test_the_report_has_the_hash_and_images_only_if_asked(run, data, entries, tmp_path, asked):
    entries[0]["captions"] = entries[2]["captions"] = ["<script>one man</script> for two"]
    root, out = data(), tmp_path / "report"
    run("cuhk_pedes", root, "--own", "--out", out, *["--images"] * asked)
    sha256 = hashlib.sha256((root / "reid_raw.json").read_bytes()).hexdigest()
    page, text, content = ((out / f"report.{e}").read_text() for e in ("html", "md", "json"))
    assert all(sha256 in one for one in (page, text, content))
    assert "<script>" not in page + text
    assert ("data:image/jpeg" in page) == asked
    told = json.loads(content)
    assert told["counts"]["train"]["ids"] == 3
    assert told["findings"][0]["title"].startswith("1 caption on several identities")
    assert "Research only" in page


def test_a_corrected_copy_is_read_without_problems_and_each_change_is_said(
    run, data, entries, examined, tmp_path
):
    entries[0]["captions"] = []
    entries[3]["file_path"] = entries[3]["file_path"].replace("/", "\\")
    root = data()
    (root / "imgs/cam_a/2_a.png").unlink()
    (root / "imgs/cam_a/5_a.png").write_bytes(b"no image")
    before, fixed = (root / "reid_raw.json").read_bytes(), tmp_path / "fixed.json"
    code, out, _ = run("cuhk_pedes", root, "--own", "--fix", fixed)
    assert code == 1
    assert "removed entry 0: field 'captions'" in out
    assert "removed entry 2: cam_a/2_a.png: does not exist" in out
    assert "removed entry 8: cam_a/5_a.png: expected a readable image" in out
    assert "9 entries kept, 3 removed" in out
    assert (root / "reid_raw.json").read_bytes() == before
    assert run("cuhk_pedes", root, "--own", "--fix", fixed)[0] == 2
    (root / "reid_raw.json").write_bytes(fixed.read_bytes())
    assert examined(root).harmful == []


def test_files_a_split_become_one_file_of_the_layout(run, data, entries, examined, tmp_path):
    root, fixed = data(name=None), tmp_path / "fixed.json"
    for split in ("train", "val", "test"):
        rows = [
            {"image": entry["file_path"], "caption": text, "image_id": entry["id"]}
            for entry in entries
            if entry["split"] == split
            for text in (entry["captions"][0], "the same in other words")
        ]
        (root / f"cuhk_{split}.json").write_text(json.dumps(rows))
    run("cuhk_pedes", root, "--own", "--fix", fixed)
    (root / "reid_raw.json").write_bytes(fixed.read_bytes())
    result = examined(root)
    assert result.harmful == []
    assert result.counts["train"] == {"ids": 3, "images": 6, "captions": 12}
