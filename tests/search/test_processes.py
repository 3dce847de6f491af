"""Several processes make the index that one makes."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from tireid.search.engines.opening import open_engine
from tireid.search.indexing import IndexOptions
from tireid.search.processes import Share, build_index_together, embed_share, prepare_index
from tireid.search.settings import read_settings


def contents(folder):
    """Return the rows of an index by path, and its vectors by path."""
    engine = open_engine(folder, read_settings(folder), read_only=True)
    rows = {row.path: row for row in engine.rows()}
    vectors = engine.vectors([row.digest for row in rows.values()])
    engine.close()
    return rows, {path: vectors[row.digest] for path, row in rows.items()}


def assert_equal_indexes(one, two):
    (rows, vectors), (again, same) = contents(one), contents(two)
    assert rows == again
    for path in rows:
        torch.testing.assert_close(vectors[path], same[path], rtol=0, atol=1e-3)


@pytest.fixture
def options(model):
    return IndexOptions(model=str(model), device="cpu", workers=0, batch_size=4)


@pytest.fixture
def share_it(pictures, tmp_path, options):
    """Return a function that embeds one share of the images."""

    def shared(rank, size, out=tmp_path / "gallery"):
        prepare_index(out, options)
        for one in [rank] if isinstance(rank, int) else rank:
            embed_share([pictures], out, options, Share(one, size))

    return shared


def test_two_shares_make_the_index_of_one_process(pictures, share_it, index_it, tmp_path):
    shutil.copy(sorted(pictures.rglob("*.png"))[0], pictures / "equal.png")
    (pictures / "text.jpg").write_text("no image")
    shutil.copy(pictures / "text.jpg", os.fsencode(pictures) + b"/\xff.jpg")
    share_it([0, 1], 2)
    report = index_it(pictures)
    assert (report.added, report.unchanged, report.total) == (13, 0, 13)
    assert [reason for path, reason in report.failures if path.endswith("text.jpg")]
    assert report.embedded == 12
    assert not list((tmp_path / "gallery" / "shards").iterdir())
    index_it(pictures, out=tmp_path / "alone")
    assert_equal_indexes(tmp_path / "gallery", tmp_path / "alone")


def test_each_image_is_in_one_share(pictures):
    for path in map(str, pictures.rglob("*.png")):
        assert sum(Share(rank, 3).holds(path) for rank in range(3)) == 1


def test_what_a_killed_share_has_embedded_is_not_embedded_again(
    pictures, share_it, index_it, tmp_path, monkeypatch
):
    share_it(0, 3)
    share_it([0, 1], 2)  # another number of processes, after the leftovers are merged
    monkeypatch.setattr("tireid.inference.retriever.Retriever.encode_pixels", None)
    assert index_it(pictures).total == 12


def test_what_is_gone_or_changed_is_decided_once(pictures, share_it, index_it, tmp_path, draw):
    index_it(pictures)
    first, second, *_ = sorted(pictures.rglob("*.png"))
    first.unlink()
    draw(second, 99)
    share_it([0, 1], 2)
    report = index_it(pictures)
    assert (report.updated, report.removed, report.unchanged, report.total) == (1, 1, 10, 11)
    index_it(pictures, out=tmp_path / "alone")
    assert_equal_indexes(tmp_path / "gallery", tmp_path / "alone")


def test_a_shard_of_another_model_is_refused(
    pictures, share_it, index_it, tmp_path, untrained_run, options
):
    share_it(0, 2)
    index_it(pictures, out=tmp_path / "other", model=str(untrained_run("model=baseline")))
    shutil.copytree(tmp_path / "gallery" / "shards", tmp_path / "other" / "shards")
    with pytest.raises(ValueError, match="expected a shard of the model"):
        index_it(pictures, out=tmp_path / "other", model=str(untrained_run("model=baseline")))


def test_a_shard_that_leads_elsewhere_is_refused(pictures, share_it, index_it, tmp_path):
    share_it(0, 2)
    shard = tmp_path / "gallery" / "shards" / "0"
    shard.rename(tmp_path / "elsewhere")
    shard.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="got a link"):
        index_it(pictures)
    assert (tmp_path / "elsewhere" / "index.json").is_file()


def test_variables_of_torchrun_that_are_missing_are_named(pictures, tmp_path, options, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match=r"RANK: expected a value .* unset RANK WORLD_SIZE"):
        build_index_together([pictures], tmp_path / "gallery", options)


@pytest.mark.long
@pytest.mark.slow
def test_torchrun_is_killed_and_goes_on_to_the_same_index(tmp_path, draw, model, index_it):
    folder = tmp_path / "many"
    for number in range(120):
        draw(folder / f"{number:03d}.png", number)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", "-m", "tireid", "index", str(folder), "--model", str(model)]
    command += ["--out", str(tmp_path / "gallery"), "--device=cpu", "--workers=0"]
    command += ["--batch-size=2"]
    with subprocess.Popen(command, start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("gallery/shards/*/index.sqlite")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("120 images") == 1
    index_it(folder, out=tmp_path / "alone")
    assert_equal_indexes(tmp_path / "gallery", tmp_path / "alone")
