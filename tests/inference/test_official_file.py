"""A checkpoint of an official code is a file, one on the hub, or one in an archive."""

import io
import tarfile

import pytest

from tireid.inference.official_file import official_file


@pytest.fixture
def packed(tmp_path):
    """Return a function from names to the archive that holds files of these."""

    def pack(*names, file=tmp_path / "runs.tar"):
        with tarfile.open(file, "w") as archive:
            for name in names:
                entry = tarfile.TarInfo(name)
                entry.size = len(name)
                archive.addfile(entry, io.BytesIO(name.encode()))
        return str(file)

    return pack


def content(address, member=None):
    with official_file(str(address), member) as path:
        return path.read_text()


def test_a_file_is_read_where_it_lies(tmp_path):
    (tmp_path / "best.pth").write_text("weights")
    assert content(tmp_path / "best.pth") == "weights"
    with pytest.raises(ValueError, match=r"member: expected null for .*best\.pth"):
        content(tmp_path / "best.pth", "a")
    with official_file(str(tmp_path / "none.pth"), None) as path:
        assert path == tmp_path / "none.pth"  # its reader says what is missing


def test_a_checkpoint_of_an_archive_is_unpacked_for_as_long(packed):
    assert content(packed("a/log.txt", "a/best.pth")) == "a/best.pth"
    several = packed("a/best.pth", "b/best.pth")
    assert content(several, "b/best.pth") == "b/best.pth"
    with pytest.raises(ValueError, match=r"member=NAME, got None; it holds a/best.pth, b/best.pth"):
        content(several)
    with pytest.raises(ValueError, match=r"member=NAME, got c; it holds a/best.pth"):
        content(several, "c")
    with (
        pytest.raises(ValueError, match=r"^\S+runs\.tar: b/best\.pth: no weights$"),
        official_file(several, "b/best.pth") as path,
    ):
        raise ValueError(f"{path}: no weights")
    assert not path.exists()


def test_a_checkpoint_on_the_hub_is_downloaded(hub, packed):
    repository = hub.repositories / "them" / "method"
    repository.mkdir(parents=True)
    (repository / "README.md").write_text("ours")
    packed("a/best.pth", file=repository / "runs.tar")
    assert content("hf://them/method") == content("hf://them/method/runs.tar") == "a/best.pth"
    assert set(hub.asked) == {"runs.tar"}
    (repository / "last.pth").write_text("last")
    assert content("hf://them/method@0123abc/last.pth") == "last"
    for address in ("hf://them/method", "hf://them/method/best.pth"):
        with pytest.raises(FileNotFoundError, match=r"hf://them/method/FILE, got last.pth, runs.t"):
            content(address)
    with pytest.raises(ValueError, match="expected hf://OWNER/NAME"):
        content("hf://them")
