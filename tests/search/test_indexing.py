"""`build_index` adds, updates and removes what has changed, and nothing stops it."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tireid
from tireid.search.engines.opening import open_engine
from tireid.search.settings import read_settings


def contents(folder):
    """Return the rows of an index by path, and its vectors by content."""
    engine = open_engine(folder, read_settings(folder), read_only=True)
    rows = {row.path: row for row in engine.rows()}
    vectors = engine.vectors([row.digest for row in rows.values()])
    engine.close()
    return rows, vectors


def counts(report):
    return report.added, report.updated, report.removed, report.unchanged


def reasons(folder):
    file = folder / "unreadable.csv"
    with file.open(newline="") as rows:
        return {row["path"]: row["reason"] for row in csv.DictReader(rows)}


def test_every_image_of_a_folder_has_the_vector_that_the_model_gives(
    pictures, index_it, tmp_path, model
):
    report = index_it(pictures, storage="float32")
    assert counts(report) == (12, 0, 0, 0)
    rows, vectors = contents(tmp_path / "gallery")
    paths = sorted(pictures.rglob("*.png"))
    assert sorted(rows) == [str(path) for path in paths]
    expected = tireid.load(model, "cpu").encode_image(paths)
    for path, vector in zip(paths, expected, strict=True):
        torch.testing.assert_close(vectors[rows[str(path)].digest], vector, rtol=0, atol=1e-6)
    assert not (tmp_path / "gallery" / "unreadable.csv").exists()


def test_again_nothing_is_embedded_or_written(pictures, index_it, tmp_path):
    index_it(pictures)
    before = contents(tmp_path / "gallery")[0]
    report = index_it(pictures)
    assert (*counts(report), report.embedded) == (0, 0, 0, 12, 0)
    assert contents(tmp_path / "gallery")[0] == before


def test_only_what_changed_is_added_updated_and_removed(pictures, index_it, draw, tmp_path):
    index_it(pictures)
    first, second, third = sorted(pictures.rglob("*.png"))[:3]
    first.unlink()
    draw(second, 99)
    os.utime(third, (1, 1))  # touched, not changed
    draw(pictures / "new.png", 55)
    report = index_it(pictures)
    assert (*counts(report), report.embedded) == (1, 1, 1, 10, 2)
    rows, _ = contents(tmp_path / "gallery")
    assert str(first) not in rows
    assert rows[str(third)].mtime_ns == 10**9
    assert index_it(pictures).unchanged == 12


def test_a_file_of_the_same_size_and_another_content_is_embedded_again(index_it, tmp_path):
    for colour in ("black", "white"):
        Image.new("RGB", (20, 20), colour).save(tmp_path / "a.bmp")
        assert index_it(tmp_path / "a.bmp").embedded == 1


def test_equal_files_are_embedded_once(pictures, index_it, tmp_path):
    first = sorted(pictures.rglob("*.png"))[0]
    for number in range(3):
        shutil.copy(first, pictures / f"copy {number}.png")
    report = index_it(pictures, batch_size=2)
    assert (report.added, report.embedded) == (15, 12)
    assert index_it(pictures, tmp_path / "pictures" / "day 0").unchanged > 0


def test_sources_beside_those_given_are_left_alone(pictures, index_it, tmp_path, draw):
    index_it(pictures / "day 0")
    assert index_it(pictures / "day 1").total == 12
    shutil.rmtree(pictures / "day 1")
    assert index_it(pictures / "day 0").total == 12
    draw(pictures / "x.png")
    assert index_it(pictures).total == 7


class TestEmptyFolders:
    """What an unmounted disk leaves must not empty an index."""

    def test_an_empty_source_keeps_its_images_until_they_are_pruned(
        self, pictures, index_it, tmp_path
    ):
        index_it(pictures)
        shutil.rmtree(pictures)
        pictures.mkdir()
        report = index_it(pictures)
        assert (report.total, report.removed, report.kept) == (12, 0, {str(pictures): 12})
        report = index_it(pictures, prune=True)
        assert (report.total, report.removed, report.kept) == (0, 12, {})

    def test_so_does_an_empty_folder_in_a_source(self, pictures, index_it, draw):
        draw(pictures / "disk" / "inner" / "a.png", 40)
        index_it(pictures)
        shutil.rmtree(pictures / "disk" / "inner")
        assert index_it(pictures).kept == {str(pictures / "disk"): 1}
        (pictures / "disk").rmdir()
        assert index_it(pictures).removed == 1

    def test_so_do_a_list_and_a_pattern(self, pictures, index_it, tmp_path):
        names = sorted(str(path) for path in (pictures / "day 0").iterdir())
        (tmp_path / "list.csv").write_text("\n".join(["path", *names]))
        sources = tmp_path / "list.csv", f"{pictures}/day 1/*.png"
        assert index_it(*sources).total == 12
        for folder in (pictures / "day 0", pictures / "day 1"):
            shutil.rmtree(folder)
            folder.mkdir()
        assert index_it(*sources).total == 12

    def test_a_folder_that_cannot_be_listed_keeps_its_images(self, pictures, index_it, monkeypatch):
        index_it(pictures)
        whole = os.scandir

        def broken(folder):
            if str(folder).endswith("day 1"):
                raise OSError(5, "Input/output error")
            return whole(folder)

        monkeypatch.setattr(os, "scandir", broken)
        report = index_it(pictures)
        assert report.kept == {str(pictures / "day 1"): 6}
        assert report.total == 12


def test_a_pattern_and_single_images_are_sources(pictures, index_it, tmp_path):
    assert index_it(f"{pictures}/**/*_c1_*.png").total == 4
    report = index_it(sorted(pictures.rglob("*.png"))[0])
    assert (report.added, report.total) == (1, 5)


def test_fields_are_read_from_names(pictures, index_it, tmp_path):
    pattern = r"_c(?P<camera>\d+)_(?P<time>\d{6})"
    index_it(pictures, name_pattern=pattern)
    rows, _ = contents(tmp_path / "gallery")
    path = str(pictures / "day 1" / "0005_c2_103005.png")
    assert rows[path].fields == {"camera": 2, "time": "10:30:05"}


def test_a_pattern_given_later_updates_fields_without_embedding(pictures, index_it):
    index_it(pictures)
    report = index_it(pictures, name_pattern=r"_c(?P<camera>\d+)")
    assert (report.updated, report.embedded) == (12, 0)
    assert index_it(pictures).unchanged == 12  # a folder says nothing, and forgets nothing


@pytest.mark.parametrize("pattern", ["(", r"_c(\d)"])
def test_a_pattern_that_names_nothing_is_refused(pictures, index_it, pattern):
    with pytest.raises(ValueError, match="name-pattern: expected"):
        index_it(pictures, name_pattern=pattern)


class TestLists:
    def test_columns_of_a_csv_are_fields(self, pictures, index_it, tmp_path):
        names = [path.relative_to(tmp_path) for path in sorted(pictures.rglob("*.png"))]
        lines = [
            f'"{name}",{n},"gate, north",2026-05-0{n} 10:00' for n, name in enumerate(names[:3])
        ]
        (tmp_path / "list.csv").write_text("\ufeffpath,camera,place,time\n" + "\n".join(lines))
        assert index_it(tmp_path / "list.csv").total == 3
        rows, _ = contents(tmp_path / "gallery")
        fields = rows[str(tmp_path / names[2])].fields
        assert fields == {"camera": 2, "place": "gate, north", "time": "2026-05-02 10:00"}

    def test_json_lines_keep_their_types(self, pictures, index_it, tmp_path):
        file = tmp_path / "list.jsonl"
        path = sorted(pictures.rglob("*.png"))[0]
        file.write_text(f'{{"path": "{path}", "id": "007", "score": 1.5, "tags": ["a"]}}\n\n')
        index_it(file)
        rows, _ = contents(tmp_path / "gallery")
        assert rows[str(path)].fields == {"id": "007", "score": 1.5, "tags": "['a']"}

    def test_what_no_other_reader_takes_is_unknown_or_written_out(self, index_it, tmp_path, draw):
        draw(tmp_path / "a.png")
        (tmp_path / "list.jsonl").write_text(
            r'{"path": "a.png", "score": NaN, "most": -Infinity, "place": "\ud800", "": 1}'
        )
        index_it(tmp_path / "list.jsonl")
        rows, _ = contents(tmp_path / "gallery")
        fields = rows[str(tmp_path / "a.png")].fields
        assert fields == {"score": None, "most": None, "place": r"\ud800"}

    def test_the_index_column_of_a_table_is_no_field(self, index_it, tmp_path, draw):
        draw(tmp_path / "a.png")
        (tmp_path / "list.csv").write_text(",path,time\n0,a.png,9:05\n")
        index_it(tmp_path / "list.csv")
        rows, _ = contents(tmp_path / "gallery")
        assert rows[str(tmp_path / "a.png")].fields == {"time": "09:05"}

    def test_one_whose_name_is_no_text_is_listed(self, index_it, tmp_path, draw):
        draw(tmp_path / "a.png")
        name = f"{tmp_path}/raw\udcff.csv"
        with open(name, "w") as file:  # noqa: PTH123 -- a name of raw bytes
            file.write("path\na.png\n")
        assert index_it(name).failures == [(name, "its name is not UTF-8; rename it")]

    def test_its_fields_win_over_a_folder_s_in_any_order(self, pictures, index_it, tmp_path):
        path = sorted(pictures.rglob("*.png"))[0]
        (tmp_path / "list.csv").write_text(f"path,place\n{path},gate\n")
        index_it(tmp_path / "list.csv", pictures)
        index_it(pictures)
        assert contents(tmp_path / "gallery")[0][str(path)].fields == {"place": "gate"}

    def test_a_file_that_is_not_there_is_listed(self, index_it, tmp_path, draw):
        draw(tmp_path / "a.png")
        (tmp_path / "list.csv").write_text("path\na.png\nnowhere.png\n")
        assert index_it(tmp_path / "list.csv").total == 1
        found = reasons(tmp_path / "gallery")
        assert found == {str(tmp_path / "nowhere.png"): "No such file or directory"}

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("a.csv", "name,camera\nx.png,1\n", "line 1: expected a column path or file or image"),
            ("a.csv", "path,camera\n,1\n", "line 2: expected a path, got ''"),
            ("a.csv", "path\nx.png,1,2\n", "line 2: more cells than"),
            ("a.jsonl", '{"path": "x.png"}\n["x.png"]\n', "line 2: expected an object"),
            ("a.jsonl", '{"path": 3}\n', "line 1: expected a path, got 3"),
            ("a.jsonl", "{", "line 1: Expecting"),
            ("a.jsonl", '{"path": ' + "[" * 100_000, "line 1: maximum recursion depth"),
            ("a.jsonl", "\udcff", "line 1: 'utf-8' codec"),
            ("a.csv", "path\udcff\n", "line 1: 'utf-8' codec"),
        ],
    )
    def test_a_broken_list_is_named_with_its_line(self, index_it, tmp_path, name, text, message):
        (tmp_path / name).write_text(text, errors="surrogateescape")
        with pytest.raises(ValueError, match=rf"{name}: {message}"):
            index_it(tmp_path / name)

    @pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
    def test_a_pipe_is_no_list(self, index_it, tmp_path, name):
        os.mkfifo(tmp_path / name)
        with pytest.raises(ValueError, match="expected a regular file, got a pipe"):
            index_it(tmp_path / name)


class TestOddFiles:
    def test_odd_names_and_kinds_are_indexed(self, tmp_path, draw, index_it):
        folder = tmp_path / "odd"
        names = ["a b.png", "'q' \"q\".png", "50%.png", "😀.png", "a\nb.png", f"{'x' * 246}.png"]
        for number, name in enumerate([*names, "[1]*?.png", ".hidden.png", "UPPER.PNG"]):
            draw(folder / name, number)
        Image.new("L", (20, 40), 90).save(folder / "grey.jpg")
        Image.new("P", (20, 40), 3).save(folder / "palette.gif")
        Image.new("CMYK", (20, 40), (9, 90, 30, 0)).save(folder / "cmyk.jpg")
        Image.new("L", (100_000, 3), 90).save(folder / "wide.png")
        pixels = np.linspace(0, 65535, 800).reshape(40, 20).astype(np.uint16)
        Image.fromarray(pixels).save(folder / "deep.png")
        frames = [Image.new("RGB", (20, 40), colour) for colour in ("red", "blue")]
        frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
        turned = Image.new("RGB", (40, 20), "green")
        turned.getexif()[0x0112] = 6
        turned.save(folder / "turned.jpg", exif=turned.getexif())
        report = index_it(folder)
        assert report.failures == []
        assert report.total == 16

    @pytest.mark.long
    @pytest.mark.slow
    def test_two_thousand_odd_files_are_indexed_or_listed(self, tmp_path, draw, index_it):
        folder, chance = tmp_path / "odd", np.random.default_rng(0)
        parts = [
            " ",
            "'",
            '"',
            "%",
            "😀",
            "\n",
            "[1]*?",
            "é",
            "e\u0301",
            "x" * 150,
            "\\",
            "\t",
            "#",
        ]
        modes = ["RGB", "L", "P", "RGBA", "LA", "1", "CMYK"]
        good = 0
        for number in range(2000):
            name = f"{number}{''.join(chance.choice(parts, 2))[:200]}"
            path = folder / f"day {number % 7}" / name
            whole = draw(path.with_name("whole.png"), number).read_bytes()
            match number % 10:
                case 0:
                    path.with_name(f"{name}.jpg").write_text("no image")
                case 1:
                    path.with_name(f"{name}.png").write_bytes(whole[: int(chance.integers(90))])
                case 2:
                    path.with_name(f"{name}.png").symlink_to("/etc/passwd")
                case 3:
                    damaged = bytearray(whole)
                    damaged[int(chance.integers(len(whole)))] ^= 255
                    path.with_name(f"{name}.png").write_bytes(damaged)
                case _:
                    mode = modes[number % len(modes)]
                    suffix = "jpg" if mode == "CMYK" else "png"
                    with Image.open(path.with_name("whole.png")) as image:
                        image.convert(mode).save(path.with_name(f"{name}.{suffix}"))
                    good += 1
            path.with_name("whole.png").unlink()
        (folder / "loop").symlink_to(folder)
        report = index_it(folder)
        assert report.total + len(report.failures) == 2001
        assert good <= report.total <= good + 200
        assert "passwd" not in str(contents(tmp_path / "gallery")[0])
        again = index_it(folder)
        assert (again.total, again.embedded) == (report.total, 0)
        assert again.failures == report.failures

    def test_what_cannot_be_read_is_listed_with_its_reason(self, pictures, index_it, tmp_path):
        first = sorted(pictures.rglob("*.png"))[0]
        (pictures / "text.jpg").write_text("no image")
        (pictures / "empty.jpg").touch()
        (pictures / "cut.png").write_bytes(first.read_bytes()[:60])
        os.mkfifo(pictures / "pipe.png")
        (pictures / "gone.png").symlink_to(pictures / "nothing")
        (pictures / "circle.png").symlink_to(pictures / "circle.png")
        (pictures / "notes.txt").write_text("left alone")
        report = index_it(pictures)
        assert (report.added, report.total) == (12, 12)
        found = reasons(tmp_path / "gallery")
        assert {Path(path).name for path in found} == {
            *("text.jpg", "empty.jpg", "cut.png", "pipe.png", "gone.png", "circle.png")
        }
        assert "is empty" in found[str(pictures / "empty.jpg")]
        assert "regular file" in found[str(pictures / "pipe.png")]

    def test_an_image_that_is_damaged_later_leaves_the_index(self, pictures, index_it):
        index_it(pictures)
        sorted(pictures.rglob("*.png"))[0].write_text("no longer an image")
        report = index_it(pictures)
        assert (report.removed, report.total, len(report.failures)) == (1, 11, 1)

    def test_links_are_followed_inside_and_listed_outside(self, pictures, index_it, tmp_path, draw):
        outside = draw(tmp_path / "outside" / "secret.png", 77)
        (pictures / "loop").symlink_to(pictures)
        (pictures / "out.png").symlink_to(outside)
        (pictures / "folder").symlink_to(outside.parent)
        (pictures / "in.png").symlink_to(sorted(pictures.rglob("0*.png"))[0])
        report = index_it(pictures)
        assert report.total == 13
        found = reasons(tmp_path / "gallery")
        assert {Path(path).name for path in found} == {"loop", "out.png", "folder"}
        assert all("--follow-links" in reason for reason in found.values())
        report = index_it(pictures, follow_links=True)
        assert (report.total, report.failures) == (15, [])

    def test_links_of_a_pattern_are_treated_as_those_of_a_folder(
        self, pictures, index_it, tmp_path, draw
    ):
        outside = draw(tmp_path / "outside" / "secret.png", 77)
        (pictures / "loop").symlink_to(pictures)
        (pictures / "day 0" / "up").symlink_to(pictures)  # with the other, 2**40 ways for `**`
        (pictures / "folder").symlink_to(outside.parent)
        (pictures / "out.png").symlink_to(outside)
        (pictures / "in.png").symlink_to(sorted(pictures.rglob("0*.png"))[0])
        report = index_it(pictures / "**" / "*.png", out=pictures / "gallery")
        assert report.total == 13
        found = reasons(pictures / "gallery")
        assert {Path(path).name for path in found} == {"loop", "up", "out.png", "folder"}
        assert all("--follow-links" in reason for reason in found.values())
        draw(pictures / "gallery" / "sheet.png")
        report = index_it(pictures / "**" / "*.png", out=pictures / "gallery", follow_links=True)
        assert (report.total, report.failures) == (15, [])

    def test_kinds_that_are_not_read_are_listed_and_not_passed_over(self, index_it, tmp_path):
        phone = tmp_path / "photos" / "IMG_0001.HEIC"
        phone.parent.mkdir()
        phone.write_bytes(b"\0\0\0\x18ftypheic" + bytes(80))
        ((path, reason),) = index_it(phone.parent).failures
        assert path == str(phone)
        assert "HEIC" in reason

    def test_a_name_that_is_no_text_is_listed(self, pictures, index_it, tmp_path):
        raw = os.fsencode(pictures) + b"/\xff\xfe.png"
        shutil.copy(sorted(pictures.rglob("*.png"))[0], raw)
        assert index_it(pictures).total == 12
        (path,) = reasons(tmp_path / "gallery")
        assert path.endswith("\\udcff\\udcfe.png")

    def test_the_index_s_own_folder_is_no_source(self, pictures, index_it, draw):
        out = pictures / "gallery"
        index_it(pictures, out=out)
        draw(out / "sheet.png")
        assert index_it(pictures, out=out).total == 12

    def test_a_folder_without_images_is_an_index_of_none(self, index_it, tmp_path):
        (tmp_path / "nothing").mkdir()
        report = index_it(tmp_path / "nothing")
        assert report.total == 0


class TestRefusals:
    def test_two_models_do_not_mix(self, pictures, index_it, untrained_run):
        index_it(pictures)
        other = untrained_run("model=baseline")
        with pytest.raises(ValueError, match="embeddings of two models do not compare"):
            index_it(pictures, model=str(other))

    def test_a_model_that_has_moved_is_the_same_one(self, pictures, index_it, model, tmp_path):
        index_it(pictures)
        moved = shutil.copytree(model, tmp_path / "moved")
        assert index_it(pictures, model=str(moved)).unchanged == 12
        assert read_settings(tmp_path / "gallery").model == str(moved)

    def test_the_storage_of_an_index_stays(self, pictures, index_it):
        index_it(pictures, storage="int8")
        with pytest.raises(ValueError, match="storage: expected int8"):
            index_it(pictures, storage="float32")

    @pytest.mark.parametrize("option", [{"batch_size": 0}, {"workers": -1}, {"every": 0.0}])
    def test_a_number_that_is_none_is_named(self, pictures, index_it, option):
        with pytest.raises(ValueError, match=f"{next(iter(option)).replace('_', '-')}: expected"):
            index_it(pictures, **option)

    def test_a_source_that_is_not_there_is_named(self, index_it):
        with pytest.raises(FileNotFoundError, match="nowhere: expected a folder"):
            index_it("nowhere")

    def test_a_folder_of_other_things_does_not_become_an_index(self, pictures, index_it):
        with pytest.raises(ValueError, match="expected an index, or a new or empty folder"):
            index_it(pictures, out=pictures)

    def test_two_processes_do_not_write_one_index(self, pictures, index_it, tmp_path):
        index_it(pictures)
        code = (
            "import sys; from filelock import FileLock; lock = FileLock(sys.argv[1]);"
            "lock.acquire(); print('held', flush=True); sys.stdin.read()"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "gallery" / ".lock")]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(ValueError, match="in use by another"):
                index_it(pictures)
            holder.stdin.close()


def test_worker_processes_make_the_same_index(pictures, index_it, tmp_path):
    (pictures / "text.jpg").write_text("no image")
    one = index_it(pictures, batch_size=5)
    two = index_it(pictures, batch_size=5, workers=2, out=tmp_path / "second")
    assert (counts(one), one.failures) == (counts(two), two.failures)
    rows, vectors = contents(tmp_path / "gallery")
    again, same = contents(tmp_path / "second")
    assert rows == again
    assert all(torch.equal(vectors[digest], same[digest]) for digest in vectors)


def test_a_worker_that_is_killed_is_one_message(index_it, pictures, monkeypatch):
    here = os.getpid()

    def die(*_):
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("tireid.search.reading.ImageFiles.__getitems__", die)
    with pytest.raises(
        OSError, match=r"a process that reads images has ended .* goes on from here"
    ):
        index_it(pictures, workers=1)
    monkeypatch.undo()
    assert index_it(pictures).total == 12


@pytest.mark.long
@pytest.mark.slow
def test_killed_at_random_it_ends_as_if_never_interrupted(tmp_path, draw, index_it, model):
    """Images are added, changed and removed between the kills."""
    chance = np.random.default_rng(0)
    pictures = tmp_path / "pictures"
    for number in range(400):
        draw(pictures / f"{number:03d}.png", number)
    code = (
        "import sys; from pathlib import Path;"
        "from tireid.search.indexing import IndexOptions, build_index;"
        "options = IndexOptions(model=sys.argv[3], device='cpu', batch_size=4, workers=1);"
        "print('go', flush=True);"
        "build_index([sys.argv[1]], Path(sys.argv[2]), options)"
    )
    command = [sys.executable, "-c", code, str(pictures), str(tmp_path / "gallery"), str(model)]
    for _ in range(20):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "go\n"
            time.sleep(chance.uniform(0.1, 3))
            process.send_signal(signal.SIGKILL)
        for _ in range(10):
            number = int(chance.integers(450))
            path = pictures / f"{number:03d}.png"
            if path.exists() and chance.random() < 0.5:
                path.unlink()
            else:
                draw(path, number + 1000)
    index_it(pictures)
    index_it(pictures, out=tmp_path / "fresh")
    rows, vectors = contents(tmp_path / "gallery")
    again, same = contents(tmp_path / "fresh")
    assert rows == again
    for digest, vector in vectors.items():
        torch.testing.assert_close(vector, same[digest], rtol=0, atol=1e-3)
