"""A run that is killed after any step ends as if it had not been, to the last bit."""

import csv
import json
import shutil

import pytest
import torch

from tireid.methods.base import RetrievalModule
from tireid.train import train

# Small runs of four steps an epoch; every step can be resumed from.
COMMON = ["callbacks.last.every_n_train_steps=1", "trainer.log_every_n_steps=1"]
TIMES = ("seconds", "images_per_second", "peak_memory_mib", "teacher", "config_sha256")


class KilledError(BaseException):
    """Stands for a kill: nobody catches it."""


@pytest.fixture
def kill_at(monkeypatch):
    """Return a function that has training die within a step, once."""
    total_loss = RetrievalModule.total_loss

    def armed(step, method=None):
        def dying(self, terms, batch_size):
            if self.global_step == step and method in (None, type(self).__name__):
                monkeypatch.setattr(RetrievalModule, "total_loss", total_loss)
                raise KilledError
            return total_loss(self, terms, batch_size)

        monkeypatch.setattr(RetrievalModule, "total_loss", dying)

    return armed


@pytest.fixture(scope="module")
def unbroken(small_config, tmp_path_factory):
    """Return a function from settings to the folder of a run that nothing stopped, kept."""
    known = {}

    def run(*settings):
        if settings not in known:
            known[settings] = tmp_path_factory.mktemp("unbroken")
            train(small_config(known[settings], *COMMON, *settings))
        return known[settings]

    return run


def left_by(folder):
    """Return what a run is compared by: record, log, weights, names of files."""
    record = json.loads((folder / "metrics.json").read_text())
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [
            {name: value for name, value in row.items() if name != "train/peak_memory_mib"}
            for row in csv.DictReader(file)
        ]
    weights = {
        f"{path.parent.name}/{path.name}": torch.load(path, weights_only=True)["state_dict"]
        for path in folder.rglob("*.ckpt")
    }
    kept = {name: value for name, value in record.items() if name not in TIMES}
    return kept, rows, weights, sorted(path.name for path in folder.rglob("*"))


def assert_equal_runs(folder, other):
    record, rows, weights, names = left_by(folder)
    its_record, its_rows, its_weights, its_names = left_by(other)
    assert names == its_names
    assert record == its_record
    assert rows == its_rows
    for file, state in weights.items():
        assert state.keys() == its_weights[file].keys()
        for name, tensor in state.items():
            assert torch.equal(tensor, its_weights[file][name]), (file, name)


LCR2S = ["model=lcr2s", "model.teacher.source=memory"]
JOINT = ["model=lcr2s", "model.joint=true"]
HALVES = ["model=baseline", "+trainer.val_check_interval=0.5"]


@pytest.mark.parametrize(
    ("settings", "step", "method", "place"),
    [
        (["model=baseline"], 6, None, "epoch 2, batch 2, step 6"),
        (["model=baseline"], 4, None, "epoch 1, step 4"),
        (["model=lgur"], 3, None, "epoch 1, batch 3, step 3"),
        pytest.param(HALVES, 6, None, "epoch 2, batch 2, step 6", marks=pytest.mark.slow),
        pytest.param(LCR2S, 6, "Lcr2sTeacher", "epoch 2, batch 2, step 6", marks=pytest.mark.slow),
        pytest.param(LCR2S, 5, "Lcr2s", "epoch 2, batch 1, step 5", marks=pytest.mark.slow),
        pytest.param(JOINT, 5, "Lcr2s", "epoch 2, batch 1, step 5", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_ends_as_an_unbroken_one(
    small_config, tmp_path, unbroken, kill_at, capsys, settings, step, method, place
):
    whole = unbroken(*settings)
    kill_at(step, method)
    with pytest.raises(KilledError):
        train(small_config(tmp_path, *COMMON, *settings))
    capsys.readouterr()
    train(small_config(tmp_path, *COMMON, *settings))
    assert f"continuing after {place}, from" in capsys.readouterr().out
    assert_equal_runs(tmp_path, whole)
