"""W&B runs are read as its client wrote them."""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from tireid.tracking.offline import (
    ID_FILE,
    find_offline_run,
    has_ended,
    read_offline_run,
    read_offline_runs,
)

wandb = pytest.importorskip("wandb")
LONG = "word " * 30_000  # more than four blocks of the file


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return a folder with a run that was continued once, and an older run."""
    folder = tmp_path_factory.mktemp("offline")

    def start(identity, **arguments):
        time.sleep(1.05)  # wandb names folders by the second
        return wandb.init(
            id=identity,
            project="people",
            mode="offline",
            dir=folder,
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
            **arguments,
        )

    with start("older") as run:
        run.log({"a": 1})
    first = start(
        "current",
        name="lgur seed1",
        group="ablation",
        job_type="train",
        tags=["lgur", "synthetic"],
        config={"model": {"heads": 4, "_target_": "a.B"}, "seed": 1, "empty": {}, "text": LONG},
    )
    first.define_metric("val/*", step_metric="trainer/global_step", summary="max")
    for step in range(3):
        first.log({"trainer/global_step": step, "train/loss": 1.0 / (step + 1)})
    first.log({"trainer/global_step": 2, "val/R1": 50.0})
    artifact = wandb.Artifact("checkpoint", "model", metadata={"test/R1": 12.5})
    (folder / "model.ckpt").write_bytes(b"weights")
    artifact.add_file(str(folder / "model.ckpt"), name="best.ckpt", policy="immutable")
    first.log_artifact(artifact, aliases=["best", "seed1"])
    first.finish(exit_code=3)
    second = start("current", name="lgur seed1", config={"seed": 1})
    second.log({"trainer/global_step": 2, "train/loss": 0.25})
    second.log({"trainer/global_step": 3, "train/loss": 0.125, "curve": np.float32(0.5)})
    second.log({"trainer/global_step": 3, "picture": wandb.Image(np.zeros((4, 6, 3), np.uint8))})
    second.summary["test/R1"] = 12.5
    second.finish()
    for place in (first.settings.sync_dir, second.settings.sync_dir):
        while not has_ended(Path(place)):  # wandb's own process writes a little later
            time.sleep(0.02)
    return folder


def test_a_continued_run_is_one(written, read_logged):
    (written / ID_FILE).write_text("current\n")
    run = read_offline_run(written)
    assert [one.id for one in read_offline_runs(written)] == ["older", "current"]
    assert (run.id, run.name) == ("current", "lgur seed1")
    assert read_offline_run(run.files[0].parent).job_type == "train"
    assert set(read_offline_run(run.files[0].parent).tags) == {"lgur", "synthetic"}
    assert len(run.files) == 2
    assert run.summary["train/loss"] == 0.125
    assert run.summary["test/R1"] == 12.5
    assert run.last_step == 3  # of four rows; the second part counted from 0 again
    logged = read_logged(written)
    assert logged.column("train/loss") == [(0, 1.0), (1, 0.5), (2, 0.25), (3, 0.125)]
    assert logged.exit_code == 0


def test_a_run_is_found_by_its_id(written, tmp_path):
    run = find_offline_run(written, "older")
    assert run is not None
    assert (run.summary["a"], run.last_step) == (1, 0)
    assert find_offline_run(written, "another") is None
    assert find_offline_run(written, None) is None
    assert find_offline_run(tmp_path / "nowhere", "older") is None


def test_records_are_read_however_long(written, read_logged):
    (written / ID_FILE).write_text("current\n")
    assert read_logged(written).config == {
        "model.heads": 4,
        "model._target_": "a.B",
        "seed": 1,
        "empty": {},
        "text": LONG,
    }


def test_the_id_file_says_which_run_and_a_part_can_be_read_alone(written):
    (written / ID_FILE).write_text("older\n")
    assert read_offline_run(written).summary["a"] == 1
    (file,) = read_offline_run(written).files
    assert read_offline_run(file.parent).id == "older"
    (written / ID_FILE).unlink()
    assert read_offline_run(written).id == read_offline_run(written / "wandb").id == "current"


def test_what_a_killed_process_left_is_read_up_to_its_last_whole_record(written, tmp_path):
    folder = shutil.copytree(written, tmp_path / "killed", symlinks=True)
    file = read_offline_run(folder).files[0]
    data = file.read_bytes()
    rows = []
    for size in (0, 3, 100, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:size])
        try:
            runs = read_offline_runs(file.parent)
        except FileNotFoundError:
            rows.append(None)
            continue
        assert not has_ended(file.parent)
        rows.append(runs[0].last_step)
    assert rows == [None, None, None, None, 3]  # the half ends within the long text
    file.write_bytes(b"something else")
    with pytest.raises(ValueError, match="expected a file of wandb"):
        read_offline_run(folder)


def test_a_folder_without_a_run_says_so(tmp_path):
    assert not has_ended(tmp_path)
    with pytest.raises(FileNotFoundError, match="expected a run of Weights & Biases"):
        read_offline_run(tmp_path)
