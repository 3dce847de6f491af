"""`evaluate` gives a run's figures again, and refuses what is not a run."""

import pickle

import pytest
import torch

from tireid.evaluate import evaluate, find_run, load_weights


def test_same_figures_again(lgur_run, compose_config):
    folder, metrics = lgur_run
    for split in ("test", "val"):
        found = evaluate(
            compose_config(f"run={folder}", f"split={split}", "accelerator=cpu", name="evaluate")
        )
        expected = {name: v for name, v in metrics.items() if name.startswith(f"{split}/")}
        assert found == expected


def test_a_checkpoint_names_its_run(lgur_run):
    folder, _ = lgur_run
    last = folder / "checkpoints" / "last.ckpt"
    assert find_run(str(last)) == (folder, last)
    assert find_run(str(folder))[1].name.startswith("epoch")


def test_what_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="set run="):
        find_run(None)
    with pytest.raises(FileNotFoundError, match="expected a run folder"):
        find_run(str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "epoch000.ckpt").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"expected config\.yaml"):
        find_run(str(tmp_path))


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a checkpoint was executed",))


def test_broken_and_hostile_checkpoints_are_refused(tmp_path):
    model = torch.nn.Linear(2, 2)
    path = tmp_path / "a.ckpt"
    for content in (b"", b"not a checkpoint", pickle.dumps(Trap())):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.ckpt: expected a checkpoint"):
            load_weights(model, path)
    torch.save({"state_dict": {"weight": torch.zeros(3, 2)}}, path)
    with pytest.raises(ValueError, match="does not fit"):
        load_weights(model, path)
