"""Checkpoint files: whole or not there, and read without running anything."""

import errno
import json
import os
import pickle
import resource
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from tireid import files
from tireid.files import remove_leftovers, replacing
from tireid.runs.checkpoint import LAST, PREVIOUS, read_checkpoint, write_checkpoint
from tireid.runs.weights import find_run, read_weights


class Trap:
    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return (os.mkdir, (str(self.place),))


def content(value):
    return {"state_dict": {"weight": torch.full((1000,), float(value))}}


def test_the_file_before_is_kept(tmp_path):
    last, previous = tmp_path / LAST, tmp_path / PREVIOUS
    for value in (1, 2, 3):
        write_checkpoint(content(value), last, previous=previous)
    assert read_checkpoint(last)["state_dict"]["weight"][0] == 3
    assert read_checkpoint(previous)["state_dict"]["weight"][0] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [LAST, PREVIOUS]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_fails_leaves_the_old_file_and_no_other(tmp_path, error):
    file = tmp_path / LAST
    write_checkpoint(content(1), file)

    def fail():
        with replacing(file, tmp_path / PREVIOUS) as writer:
            writer.write(b"half of")
            raise error

    with pytest.raises(error):
        fail()
    assert read_checkpoint(file)["state_dict"]["weight"][0] == 1
    assert [path.name for path in tmp_path.iterdir()] == [LAST]


def test_a_full_disk_is_said_in_one_line_and_harms_nothing(tmp_path):
    """The system refuses to let a file grow, in the middle of the writing."""
    file = tmp_path / LAST
    write_checkpoint(content(1), file)
    large = {"state_dict": {"weight": torch.zeros(1_000_000)}}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"last\.ckpt: could not be written \(File too large"):
            write_checkpoint(large, file, previous=tmp_path / PREVIOUS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_checkpoint(file)["state_dict"]["weight"][0] == 1
    assert [path.name for path in tmp_path.iterdir()] == [LAST]


def test_a_disk_that_is_full_when_all_is_written(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_checkpoint(content(1), tmp_path / LAST)
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device; .* MiB free") as caught:
        write_checkpoint(content(2), tmp_path / LAST)
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert read_checkpoint(tmp_path / LAST)["state_dict"]["weight"][0] == 1
    assert [path.name for path in tmp_path.iterdir()] == [LAST]


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    writing = replacing(tmp_path / LAST)
    writing.__enter__().write(b"half of")  # a killed process never leaves the block
    assert [path.name for path in tmp_path.iterdir()] != []
    write_checkpoint(content(1), tmp_path / "other.ckpt")
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["other.ckpt"]


def whole(path):
    write_checkpoint(content(1), path)
    return path.read_bytes()


BROKEN = {
    "empty": (lambda data, _: b"", "got an empty file"),
    "truncated": (lambda data, _: data[: len(data) // 2], "cut off or damaged"),
    "flipped": (lambda data, _: data[:2000] + b"\xff" + data[2001:], "cut off or damaged"),
    "text": (lambda data, _: b"epoch 3 was good", "another kind of file"),
    "code": (lambda data, trap: pickle.dumps({"a": Trap(trap)}), "may carry code; none of it was"),
    "object": (lambda data, _: pickle.dumps({"a": zipfile.ZipFile}), "may carry code"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_and_hostile_files_are_refused_by_name(tmp_path, kind):
    make, message = BROKEN[kind]
    file, trap = tmp_path / LAST, tmp_path / "trap"
    file.write_bytes(make(whole(file), trap))
    with pytest.raises(ValueError, match=message) as caught:
        read_checkpoint(file)
    assert str(caught.value).startswith(f"{file}: expected a checkpoint, got ")
    assert "\n" not in str(caught.value)
    assert not trap.exists()
    write_checkpoint(content(1), tmp_path / PREVIOUS)
    with pytest.raises(ValueError, match=r"the one before it is .*last_previous\.ckpt"):
        read_checkpoint(file)


def test_code_within_a_file_of_torch_is_not_run(tmp_path):
    file, trap = tmp_path / LAST, tmp_path / "trap"
    torch.save({"state_dict": {"weight": Trap(trap)}}, file)
    with pytest.raises(ValueError, match="may carry code; none of it was loaded or run"):
        read_checkpoint(file)
    torch.save(torch.nn.Linear(2, 2), file)
    with pytest.raises(ValueError, match="may carry code"):
        read_checkpoint(file)
    torch.save([1, 2], file)
    with pytest.raises(ValueError, match="got a list"):
        read_checkpoint(file)
    assert not trap.exists()


def nested(depth):
    value = [1]
    for _ in range(depth):
        value = [value]
    return value


def repeated(times):
    value = [1]
    for _ in range(times):
        value = [value, value]
    return value


STRANGE = {
    "sparse": (lambda: torch.ones(3).to_sparse(), r"a sparse tensor in state_dict\.a"),
    "meta": (lambda: torch.ones(3, device="meta"), r"a tensor without content \(meta\)"),
    "complex": (lambda: torch.ones(3) + 1j, "a tensor of complex numbers"),
    "endless": (
        lambda: torch.ones(1).expand(10**9, 10**9),
        r"a tensor that repeats its numbers to the shape \(1000000000, 1000000000\)",
    ),
    "deep": (lambda: nested(100), "more than 64 levels of nesting in state_dict"),
    "repeated": (lambda: repeated(40), r"more than 2,000,000 values"),
}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=pytest.mark.slow if k == "repeated" else ()) for k in STRANGE],
)
def test_values_that_no_model_has_are_refused_by_name(tmp_path, kind):
    make, message = STRANGE[kind]
    torch.save({"state_dict": {"a": make()}}, tmp_path / LAST)
    with pytest.raises(ValueError, match=rf"last\.ckpt: expected a checkpoint, got {message}"):
        read_checkpoint(tmp_path / LAST)


def test_an_archive_that_unpacks_to_more_is_refused_before_it_is_read(tmp_path, monkeypatch):
    write_checkpoint({"state_dict": {"a": torch.zeros(1_000_000)}}, tmp_path / "plain.ckpt")
    with (
        zipfile.ZipFile(tmp_path / "plain.ckpt") as plain,
        zipfile.ZipFile(tmp_path / LAST, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert (tmp_path / LAST).stat().st_size < 100_000
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(ValueError, match="compressed parts, as torch never writes them"):
        read_checkpoint(tmp_path / LAST)


def test_a_pipe_is_no_checkpoint(tmp_path):
    os.mkfifo(tmp_path / LAST)
    with pytest.raises(ValueError, match=r"last\.ckpt: expected a regular file, got a pipe"):
        read_checkpoint(tmp_path / LAST)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": torch.tensor([1.0, torch.nan])}, "holds numbers that are not finite in a"),
        ({"a": torch.tensor([torch.inf])}, "holds numbers that are not finite in a"),
        ({1: torch.ones(1)}, "holds 1, which is no tensor by name"),
        ({"a": 1.0}, "holds 'a', which is no tensor by name"),
        ([], "has no state_dict"),
    ],
)
def test_weights_are_finite_tensors_by_name(tmp_path, state, message):
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=rf"a\.ckpt: expected the weights .*, but it {message}"):
        read_weights(tmp_path / "a.ckpt")


def test_infinite_weights_of_an_export_are_refused_too(tmp_path):
    save_file({"a": torch.tensor([torch.nan])}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors: .*not finite in a"):
        read_weights(tmp_path / "model.safetensors")


@pytest.mark.parametrize("name", ["../a.ckpt", "/etc/passwd", "..", ".", "a/b", "a\0"])
def test_a_record_names_checkpoints_of_its_own_folder_only(tmp_path, name):
    run = tmp_path / "run"
    write_checkpoint(content(1), run / "checkpoints" / "own.ckpt")
    write_checkpoint(content(2), tmp_path / "run" / "a.ckpt")
    (run / "config.yaml").touch()
    (run / "metrics.json").write_text(json.dumps({"tested_checkpoint": name}))
    with pytest.raises(
        ValueError, match=r"tested_checkpoint: expected the name of a file in check"
    ):
        find_run(str(run))


def test_a_link_out_of_the_folder_is_no_checkpoint_of_it(tmp_path):
    run = tmp_path / "run"
    write_checkpoint(content(1), tmp_path / "theirs.ckpt")
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").touch()
    (run / "checkpoints" / "own.ckpt").symlink_to(tmp_path / "theirs.ckpt")
    with pytest.raises(ValueError, match=r"own\.ckpt: expected a file inside .*run, got a link to"):
        find_run(str(run))
