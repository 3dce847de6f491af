"""`tireid index --detect`: the people in photographs and videos become images of their own."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageDraw
from torch.nn import functional as F

import tireid
from tireid.search.crops import read_crop, read_scene
from tireid.search.detectors.interface import Box, Person
from tireid.search.engines.opening import open_engine
from tireid.search.indexing import IndexOptions
from tireid.search.parts import image_id
from tireid.search.processes import Share, embed_share, prepare_index
from tireid.search.scenes import Scenes
from tireid.search.settings import read_settings
from tireid.search.sheet import draw_sheet

av = pytest.importorskip("av", reason="needs tireid[video]")

from tireid.search.video import frame_at, frames  # noqa: E402 -- after the skip

GROUND = (0, 0, 90)


def scene(*people, size=(160, 120)):
    """Return an image of a plain ground with a red rectangle for each person's left side."""
    image = Image.new("RGB", size, GROUND)
    for left in people:
        ImageDraw.Draw(image).rectangle((left, 40, left + 19, 99), fill=(220, left, 30))
    return image


def find_red(image):
    """Return one person where the ground is red."""
    box = image.getchannel("R").point(lambda value: 255 * (value > 128)).getbbox()
    if box is None:
        return []
    return [Person(Box(box[0], box[1], box[2] - box[0], box[3] - box[1]), 0.9)]


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """Replace the detectors; return the images that were looked through."""
    seen = []

    def detect(image):
        seen.append(image.copy())
        return find_red(image)

    monkeypatch.setattr("tireid.search.indexing.open_detector", lambda name, device: detect)
    return seen


@pytest.fixture
def film():
    """Return a function that writes a video of a frame a tenth of a second."""

    def written(path, images):
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = *images[0].size, "yuv420p"
            for image in images:
                container.mux(stream.encode(av.VideoFrame.from_image(image)))
            container.mux(stream.encode())
        return path

    return written


@pytest.fixture
def walk(film, tmp_path):
    """Return a video of 3 s: somebody comes after one second."""
    images = [scene(*([n] if n >= 10 else [])) for n in range(30)]
    return film(tmp_path / "scenes" / "walk.mp4", images)


def contents(folder):
    engine = open_engine(folder, read_settings(folder), read_only=True)
    rows = sorted(engine.rows(), key=lambda row: (row.path, row.fields.get("second", 0)))
    vectors = engine.vectors([row.digest for row in rows])
    engine.close()
    return rows, [vectors[row.digest] for row in rows]


def test_a_person_in_a_photograph_has_the_vector_of_the_padded_crop(index_it, tmp_path, model):
    (tmp_path / "scenes").mkdir()
    scene(50).save(tmp_path / "scenes" / "one.png")
    scene().save(tmp_path / "scenes" / "nobody.png")
    report = index_it(tmp_path / "scenes", detect="any", storage="float32")
    assert (report.added, report.scenes, report.total) == (1, 2, 1)
    (row,), (vector,) = contents(tmp_path / "gallery")
    assert row.fields == {"box": "50,40,20,60", "detector_score": 0.9}
    crop = scene(50).crop((49, 37, 71, 103))
    expected = tireid.load(model, "cpu").encode_image([crop])[0]
    torch.testing.assert_close(vector, expected, rtol=0, atol=1e-6)


def test_a_video_is_sampled_and_its_people_keep_their_times(walk, index_it, tmp_path, asked):
    report = index_it(walk, detect="any", every=0.5)
    assert (report.added, report.scenes) == (4, 6)
    rows, vectors = contents(tmp_path / "gallery")
    assert [row.fields["second"] for row in rows] == [1.0, 1.5, 2.0, 2.5]
    assert [row.fields["time"] for row in rows] == ["00:00:01", "00:00:01.500", "00:00:02",
                                                    "00:00:02.500"]  # fmt: skip
    with tireid.Index.open(tmp_path / "gallery", device="cpu") as index:
        found = index.search("a person", where="second>=2 and time<00:00:03")
        (first,) = [result for result in found if result.fields["second"] == 2.0]
        assert first.part.second == 2.0
        close(first.image(), asked[4].crop((19, 37, 41, 103)))
        again = index.retriever.encode_image([first.image()])
        assert F.cosine_similarity(again, vectors[2][None]) > 0.999


def close(one, other):
    """Whether two images are nearly the same: a frame may be decoded after a seek."""
    assert one.size == other.size
    assert np.asarray(ImageChops.difference(one, other)).max() < 8


def test_the_time_of_a_name_is_when_the_video_begins(film, index_it, tmp_path):
    film(tmp_path / "scenes" / "c3_20260501_235959.mp4", [scene(30)] * 20)
    pattern = r"c(?P<camera>\d)_(?P<time>\d{8}_\d{6})"
    index_it(tmp_path / "scenes", detect="any", name_pattern=pattern)
    rows, _ = contents(tmp_path / "gallery")
    assert [row.fields["time"] for row in rows] == ["2026-05-01 23:59:59", "2026-05-02 00:00:00"]
    assert {row.fields["start"] for row in rows} == {"2026-05-01 23:59:59"}
    assert index_it(tmp_path / "scenes", name_pattern=pattern).unchanged == 2
    report = index_it(tmp_path / "scenes", name_pattern=r"c(?P<place>\d)_(?P<time>\d{8}_\d{6})")
    assert (report.updated, report.embedded) == (2, 0)


def test_again_no_scene_is_looked_through(walk, index_it, tmp_path, asked):
    scene().save(walk.with_name("nobody.png"))
    index_it(walk.parent, detect="any")
    before = contents(tmp_path / "gallery")[0]
    asked.clear()
    report = index_it(walk.parent)
    assert (report.unchanged, report.added, report.removed, asked) == (2, 0, 0, [])
    assert contents(tmp_path / "gallery")[0] == before
    os.utime(walk, (5, 5))  # touched, not changed
    assert (index_it(walk.parent).unchanged, asked) == (2, [])
    assert contents(tmp_path / "gallery")[0][0].mtime_ns == 5 * 10**9
    assert (index_it(walk.parent).unchanged, asked) == (2, [])


def test_a_changed_video_s_people_replace_those_before(walk, film, index_it, tmp_path):
    index_it(walk, detect="any", every=0.5)
    film(walk, [scene(70)] * 11)
    report = index_it(walk)
    assert (report.added, report.removed, report.total) == (3, 4, 3)
    walk.unlink()
    scene(3).save(walk.with_name("other.png"))
    report = index_it(walk.parent)
    assert (report.added, report.removed, report.total) == (1, 3, 1)


def test_a_stopped_video_goes_on_where_its_people_are_kept(
    walk, index_it, tmp_path, asked, monkeypatch
):
    index_it(walk, detect="any", every=0.1, out=tmp_path / "whole")
    asked.clear()

    def stop(image):
        if len(asked) == 18:
            raise KeyboardInterrupt
        asked.append(image)
        return find_red(image)

    with monkeypatch.context() as patch:
        patch.setattr("tireid.search.indexing.open_detector", lambda name, device: stop)
        with pytest.raises(KeyboardInterrupt):
            index_it(walk, detect="any", every=0.1, batch_size=4)
    assert len(contents(tmp_path / "gallery")[0]) == 8
    asked.clear()
    report = index_it(walk)
    assert (report.added, report.total, len(asked)) == (12, 20, 12)
    rows, vectors = contents(tmp_path / "gallery")
    whole, same = contents(tmp_path / "whole")
    assert rows == whole
    torch.testing.assert_close(torch.stack(vectors), torch.stack(same), rtol=0, atol=1e-3)


def test_a_damaged_video_is_listed_and_what_could_be_read_is_kept(walk, index_it, tmp_path):
    whole = walk.read_bytes()
    walk.write_bytes(whole[: len(whole) // 2])  # an MP4's table is at its end
    (walk.parent / "list.mp4").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nwalk.mp4\n"
    )
    scene(9).save(walk.with_name("good.png"))
    report = index_it(walk.parent, detect="any")
    assert report.total == 1
    assert sorted(path.rpartition("/")[2] for path, _ in report.failures) == [
        "list.mp4", "walk.mp4"
    ]  # fmt: skip
    assert all(reason.startswith("expected a readable video") for _, reason in report.failures)
    walk.write_bytes(whole)
    assert index_it(walk.parent).added == 2


def test_a_video_needs_a_detector(walk, index_it, tmp_path):
    report = index_it(walk)
    assert report.failures == [(str(walk), "a video; --detect hog or dfine finds the people in it")]


@pytest.mark.parametrize(("name", "value"), [("detect", "other"), ("every", 2.0)])
def test_detector_and_rate_of_an_index_stay(walk, index_it, name, value):
    index_it(walk, detect="any")
    with pytest.raises(ValueError, match=f"{name}: expected (any|1.0), which"):
        index_it(walk, **{name: value})


def test_an_index_of_people_is_no_index_of_scenes(pictures, index_it):
    index_it(pictures)
    with pytest.raises(ValueError, match="detect: expected nothing, which"):
        index_it(pictures, detect="any")


def test_a_scene_is_shown_with_a_frame_around_the_person(walk, index_it, tmp_path):
    index_it(walk, detect="any")
    with tireid.Index.open(tmp_path / "gallery", device="cpu") as index:
        results = index.search("a person")
        part = results[0].part
        shown = read_scene(walk, part)
        assert shown.size == (160, 120)
        changed = ImageChops.difference(shown, frame_at(walk, part.second)).getbbox()
        left, top, right, bottom = part.box.corners
        assert changed == (left - 2, top - 2, right + 3, bottom + 3)
        draw_sheet([("a person", results)], tmp_path / "sheet.png")
        walk.write_bytes(b"gone")
        with pytest.raises(ValueError, match="expected a readable video"):
            read_crop(walk, part)


def test_the_page_shows_person_and_scene(walk, index_it, tmp_path):
    pytest.importorskip("fastapi", reason="needs tireid[serve]")
    import io

    from fastapi.testclient import TestClient

    from tireid.search.page.app import make_app

    index_it(walk, detect="any")
    with tireid.Index.open(tmp_path / "gallery", device="cpu") as index:
        page = TestClient(make_app(index), base_url="http://127.0.0.1")
        (found,) = page.get("/search", params={"q": "a person", "where": "second=1"}).json()
        assert found["scene"]
        assert found["fields"]["time"] == "00:00:01"
        person, whole = (page.get(f"/{kind}/{found['id']}") for kind in ("image", "scene"))
        assert Image.open(io.BytesIO(person.content)).size == (22, 66)
        assert Image.open(io.BytesIO(whole.content)).size == (160, 120)
        assert page.get("/scene/7").status_code == 404
        walk.unlink()
        assert page.get(f"/scene/{found['id']}").status_code == 404


def test_a_field_that_a_user_calls_box_cuts_nothing(index_it, tmp_path, draw, pictures):
    path = sorted(pictures.rglob("*.png"))[0]
    (tmp_path / "list.csv").write_text(f'path,box\n{path},"1,1,2,2"\n')
    index_it(tmp_path / "list.csv")
    with tireid.Index.open(tmp_path / "gallery", device="cpu") as index:
        (result,) = index.search("a person")
    assert result.id == image_id(str(path))
    assert result.part is None
    assert result.image().size == (30, 70)


class TestVideo:
    def test_each_interval_gives_its_first_frame(self, walk):
        seconds = [second for second, _, _ in frames(walk, 0.3)]
        assert seconds == [0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1, 2.4, 2.7]
        assert [s for s, _, _ in frames(walk, 0.3, after=1.5)] == [1.8, 2.1, 2.4, 2.7]

    def test_the_done_share_rises_to_one(self, walk):
        shares = [share for _, share, _ in frames(walk, 0.5)]
        assert shares == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6], abs=0.01)

    def test_a_frame_is_found_again_by_its_time(self, walk):
        for second, _, image in frames(walk, 0.7):
            close(frame_at(walk, second), image)

    def test_a_time_behind_the_end_is_refused(self, walk):
        with pytest.raises(ValueError, match=r"walk\.mp4: .* no frame at 9.0 s"):
            frame_at(walk, 9.0)

    @pytest.mark.parametrize("name", ["text.mp4", "empty.mp4"])
    def test_what_is_no_video_is_named(self, tmp_path, name):
        (tmp_path / name).write_text("no video" if name == "text.mp4" else "")
        with pytest.raises(ValueError, match=f"{name}: expected a readable video"):
            list(frames(tmp_path / name, 1.0))


def test_files_of_any_kind_of_scene_share_one_folder(walk, index_it, tmp_path):
    shutil.copy(walk, walk.with_name("copy.mp4"))
    report = index_it(walk.parent, detect="any")
    assert (report.added, report.embedded) == (4, 2)  # equal files are embedded once


def people_of(folder):
    """Return the rows of an index, the states of its scenes, and its vectors."""
    engine = open_engine(folder, read_settings(folder), read_only=True)
    rows = sorted(engine.rows(), key=lambda row: row.id)
    vectors = engine.vectors([row.digest for row in rows])
    engine.close()
    return rows, list(Scenes(folder).all()), [vectors[row.digest] for row in rows]


def test_two_shares_find_the_people_that_one_process_finds(
    walk, index_it, tmp_path, model, asked, film
):
    folder, out = walk.parent, tmp_path / "gallery"
    for number in range(6):
        scene(10 * number).save(folder / f"{number}.png")
    (folder / "bad.jpg").write_text("no image")
    options = IndexOptions(model=str(model), device="cpu", workers=0, batch_size=4, detect="any")

    def shared():
        prepare_index(out, options)
        for rank in (0, 1):
            embed_share([folder], out, options, Share(rank, 2))
        asked.clear()
        return index_it(folder)

    report = shared()
    assert asked == []  # the last process has nothing left to look through
    assert [path.endswith("bad.jpg") for path, _ in report.failures] == [True]
    index_it(folder, detect="any", out=tmp_path / "alone")
    scene(90).save(folder / "2.png")
    os.utime(folder / "3.png")
    (folder / "4.png").unlink()
    report = shared()
    assert asked == []
    assert report.removed == 2
    index_it(folder, out=tmp_path / "alone")
    rows, states, vectors = people_of(out)
    expected, same, others = people_of(tmp_path / "alone")
    assert (rows, states) == (expected, same)
    torch.testing.assert_close(vectors, others, rtol=0, atol=1e-3)
    assert not list((out / "shards").iterdir())
