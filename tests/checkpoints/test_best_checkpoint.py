"""The best checkpoint moves with its folder, and its file stays as long as it is needed."""

import pytest
import torch

from tireid.checkpoints.best_checkpoint import BestCheckpoint

NAME = "epoch{epoch:03d}_R1_{val/R1:.2f}"


def best_checkpoint(folder):
    return BestCheckpoint(
        dirpath=str(folder),
        filename=NAME,
        monitor="val/R1",
        mode="max",
        auto_insert_metric_name=False,
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def trained(tiny, tiny_trainer, tmp_path):
    """Return the callback of a run whose second epoch is the better one."""
    best = best_checkpoint(tmp_path / "old")
    tiny_trainer(best).fit(tiny())
    return best


def test_a_better_file_replaces_the_one_before(trained, tmp_path):
    assert names(tmp_path / "old") == ["epoch002_R1_1.00.ckpt"]
    assert trained.best_model_score == 1


def test_a_superseded_file_stays_while_it_is_asked_for(tiny, tiny_trainer, tmp_path):
    best = best_checkpoint(tmp_path / "run")
    best.keeps_superseded = True
    tiny_trainer(best).fit(tiny())
    assert names(tmp_path / "run") == ["epoch001_R1_0.00.ckpt", "epoch002_R1_1.00.ckpt"]
    foreign = ["last.ckpt", "epoch_of_mine.ckpt", "epoch001_R1_0.00.txt"]
    for name in foreign:
        (tmp_path / "run" / name).touch()
    best.remove_superseded()
    assert names(tmp_path / "run") == sorted([*foreign, "epoch002_R1_1.00.ckpt"])
    best.clear()
    assert names(tmp_path / "run") == sorted(foreign)


def test_a_moved_folder_is_followed(trained, tmp_path):
    (tmp_path / "old").rename(tmp_path / "new")
    moved = best_checkpoint(tmp_path / "new")
    moved.load_state_dict(trained.state_dict())
    path = str(tmp_path / "new" / "epoch002_R1_1.00.ckpt")
    assert (moved.best_model_path, moved.kth_best_model_path) == (path, path)
    assert moved.best_k_models == {path: torch.tensor(1.0)}
    assert moved.best_model_score == 1


def test_a_best_file_that_is_gone_is_told_and_no_longer_counts(trained, tmp_path):
    (tmp_path / "old" / "epoch002_R1_1.00.ckpt").unlink()
    resumed = best_checkpoint(tmp_path / "old")
    with pytest.warns(UserWarning, match=r"epoch002_R1_1\.00\.ckpt: this best checkpoint is gone"):
        resumed.load_state_dict(trained.state_dict())
    assert resumed.best_k_models == {}
    assert resumed.kth_best_model_path == ""
