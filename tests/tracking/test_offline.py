"""Runs of Weights & Biases are read back as its client wrote them."""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from tireid.tracking.offline import (
    ID_FILE,
    has_ended,
    has_offline_run,
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


def test_a_continued_run_is_one(written):
    (written / ID_FILE).write_text("current\n")
    run = read_offline_run(written)
    assert [one.id for one in read_offline_runs(written)] == ["older", "current"]
    assert (run.id, run.project, run.name) == ("current", "people", "lgur seed1")
    assert len(run.folders) == 2
    assert run.column("train/loss") == [(0, 1.0), (1, 0.5), (2, 0.25), (3, 0.125)]
    assert run.column("val/R1") == [(2, 50.0)]
    assert run.column("nothing") == []
    assert run.exit_code == 0
    assert run.definitions["val/*"] == {"step": "trainer/global_step", "summary": "max"}


def test_settings_come_by_dotted_name_however_long(written):
    config = read_offline_run(written).config
    assert config == {
        "model.heads": 4,
        "model._target_": "a.B",
        "seed": 1,
        "empty": {},
        "text": LONG,
    }


def test_artifacts_tell_their_files(written):
    (artifact,) = read_offline_run(written).artifacts
    assert (artifact.name, artifact.type) == ("checkpoint", "model")
    assert set(artifact.aliases) == {"best", "seed1", "latest"}
    assert artifact.metadata == {"test/R1": 12.5}
    assert artifact.files["best.ckpt"].read_bytes() == b"weights"


def test_pictures_are_found(written, tmp_path):
    run = read_offline_run(written)
    assert run.summary["test/R1"] == 12.5
    assert run.media(run.summary["picture"]).suffix == ".png"
    with pytest.raises(FileNotFoundError, match="gone"):
        run.media({"path": "gone.png"})


def test_the_id_file_says_which_run_and_a_part_can_be_read_alone(written):
    (written / ID_FILE).write_text("older\n")
    assert read_offline_run(written).column("a") == []
    assert [row["a"] for row in read_offline_run(written).history] == [1]
    (part,) = read_offline_run(written).folders
    assert read_offline_run(part).id == "older"
    (written / ID_FILE).unlink()
    assert read_offline_run(written).id == read_offline_run(written / "wandb").id == "current"


def test_what_a_killed_process_left_is_read_up_to_its_last_whole_record(written, tmp_path):
    folder = shutil.copytree(written, tmp_path / "killed", symlinks=True)
    file = next((read_offline_run(folder).folders[0]).glob("*.wandb"))
    data = file.read_bytes()
    rows = []
    for size in (0, 3, 100, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:size])
        try:
            runs = read_offline_runs(file.parent)
        except FileNotFoundError:
            rows.append(None)
            continue
        assert runs[0].exit_code is None
        rows.append(len(runs[0].history))
    assert rows == [None, None, None, None, 4]  # the half ends within the long text
    file.write_bytes(b"something else")
    with pytest.raises(ValueError, match="expected a file of wandb"):
        read_offline_run(folder)


def test_a_folder_without_a_run_says_so(tmp_path):
    assert not has_offline_run(tmp_path)
    with pytest.raises(FileNotFoundError, match="expected a run of Weights & Biases"):
        read_offline_run(tmp_path)
