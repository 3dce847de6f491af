import json
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from tireid.data import packed_images
from tireid.data.image_source import ImageSource


@pytest.fixture
def pictures(tmp_path, noise) -> list[Path]:
    paths = [tmp_path / f"{number}.jpg" for number in range(4)]
    for number, path in enumerate(paths):
        Image.fromarray(noise(60, 30 + number, 3)).save(path)
    return paths


@pytest.fixture
def packed(pictures, tmp_path):
    """A function to the pictures, packed below `tmp_path`, with any argument replaced."""

    def make(paths=pictures, size=(24, 9), cache=tmp_path / "cache", **options) -> ImageSource:
        source = ImageSource(paths, size, "bicubic", **options)
        source.pack(cache, progress=False)
        return source

    return make


@pytest.fixture
def no_reading(monkeypatch):
    """A function after which no image may be read."""

    def forbid():
        monkeypatch.setattr(ImageSource, "_read", lambda *_: pytest.fail("read again"))

    return forbid


def only_cache(tmp_path: Path) -> Path:
    (folder,) = (path for path in (tmp_path / "cache" / "images").iterdir() if path.is_dir())
    return folder


@pytest.mark.parametrize("decoder", ["pillow", "fast"])
def test_packed_images_are_those_read(pictures, packed, decoder):
    plain = ImageSource(pictures, (24, 9), "bicubic", decoder=decoder)
    found = packed(decoder=decoder)
    sent = pickle.loads(pickle.dumps(found))  # noqa: S301 -- our own
    for index in (2, 0, 3, 1):
        assert torch.equal(found[index], plain[index])
        assert torch.equal(sent[index], plain[index])
    assert len(pickle.dumps(found)) < 5_000  # not the pixels


def test_images_are_packed_once_and_the_size_is_said_before(packed, capsys, no_reading):
    first = packed()
    said = " ".join(capsys.readouterr().err.split())
    assert "Packing 4 images of 24x9 once, into 0.0 MiB in" in said
    assert "MiB are free" in said
    no_reading()
    assert torch.equal(packed()[1], first[1])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "change",
    [
        lambda packed, paths: packed(size=(12, 9)),
        lambda packed, paths: packed(decoder="fast"),
        lambda packed, paths: packed(paths[::-1]),
        lambda packed, paths: (os.utime(paths[2], ns=(1, 1)), packed())[1],
    ],
    ids=["size", "decoder", "order", "changed file"],
)
def test_what_changes_the_pixels_has_a_cache_of_its_own(packed, pictures, tmp_path, change):
    packed()
    found = change(packed, pictures)
    plain = ImageSource(found._paths, found.image_size, "bicubic", decoder=found._decoder)
    assert all(torch.equal(found[index], plain[index]) for index in range(4))
    assert len([path for path in (tmp_path / "cache/images").iterdir() if path.is_dir()]) == 2


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / "pixels.bin").read_bytes())
    content[100] ^= 1
    (folder / "pixels.bin").write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        lambda folder: os.truncate(folder / "pixels.bin", 1000),
        lambda folder: (folder / "pixels.bin").unlink(),
        lambda folder: (folder / "facts.json").write_text("[1, 2]"),
        lambda folder: (folder / "facts.json").write_text("null"),
        lambda folder: (folder / "facts.json").unlink(),
    ],
    ids=["byte", "truncated", "no pixels", "a list", "null", "no facts"],
)
def test_a_damaged_cache_is_made_anew(packed, pictures, tmp_path, damage, capsys):
    packed()
    damage(only_cache(tmp_path))
    capsys.readouterr()
    found = packed()
    assert "is damaged and packed again" in capsys.readouterr().err
    plain = ImageSource(pictures, (24, 9), "bicubic")
    assert all(torch.equal(found[index], plain[index]) for index in range(4))


def test_a_copied_cache_is_checked_once_and_kept(packed, tmp_path, no_reading, monkeypatch):
    first = packed()[2]
    shutil.copytree(tmp_path / "cache", tmp_path / "copy", copy_function=shutil.copyfile)
    no_reading()
    assert torch.equal(packed(cache=tmp_path / "copy")[2], first)
    monkeypatch.setattr(packed_images, "file_sha256", lambda _: pytest.fail("read again"))
    assert torch.equal(packed(cache=tmp_path / "copy")[2], first)


def test_those_that_ask_at_the_same_time_get_one_cache(packed, monkeypatch):
    read, reads = ImageSource._read, []
    monkeypatch.setattr(ImageSource, "_read", lambda self, i: reads.append(i) or read(self, i))
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: packed(), range(3)))
    assert sorted(reads) == [0, 1, 2, 3]
    assert all(torch.equal(one[3], found[0][3]) for one in found)


def test_too_little_room_is_said_before_anything_is_written(packed, tmp_path, monkeypatch):
    full = SimpleNamespace(free=100)
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    with pytest.raises(OSError, match=r"4 images cannot be packed in .*GiB free.*dataset\.cache="):
        packed()
    assert not [path for path in (tmp_path / "cache/images").iterdir() if path.is_dir()]


def test_an_image_that_cannot_be_read_is_named_and_leaves_no_cache(packed, pictures, tmp_path):
    pictures[2].write_text("no image")
    with pytest.raises(ValueError, match=r"1 of 4 images cannot be read.*\n.*2\.jpg"):
        packed()
    assert not [path for path in (tmp_path / "cache/images").iterdir() if path.is_dir()]


def test_the_facts_say_what_is_packed(packed, tmp_path):
    packed(decoder="fast")
    facts = json.loads((only_cache(tmp_path) / "facts.json").read_text())
    assert facts["image_size"] == [24, 9]
    assert (facts["decode"], facts["images"]) == ("fast", 4)


def test_images_that_nobody_read_for_long_are_removed_and_the_rest_is_told(
    packed, tmp_path, monkeypatch, capsys
):
    packed()
    old = only_cache(tmp_path)
    packed(size=(20, 9))
    assert "Other packed images take 0.0 MiB" in capsys.readouterr().err
    others = [path for path in old.parent.iterdir() if path.is_dir() and path != old]
    monkeypatch.setattr(packed_images, "_UNUSED_DAYS", 0)
    os.utime(others[0] / "facts.json", (2e9, 2e9))  # as if just read
    packed(size=(16, 9))
    assert not old.exists()
    assert others[0].is_dir()
    assert "that were not read for 0 days are" in capsys.readouterr().err
