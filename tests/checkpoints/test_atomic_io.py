"""Lightning's saving and loading go through atomic files."""

import pickle

import pytest
import torch

from tireid.checkpoints.last_checkpoint import AtomicCheckpointIO


def test_a_checkpoint_is_written_read_and_removed(tmp_path):
    plugin, file = AtomicCheckpointIO(), tmp_path / "checkpoints" / "last.ckpt"
    plugin.save_checkpoint({"step": 1, "weight": torch.ones(2)}, str(file))
    content = plugin.load_checkpoint(str(file))
    assert content["step"] == 1
    assert content["weight"].tolist() == [1, 1]
    assert [path.name for path in file.parent.iterdir()] == ["last.ckpt"]
    for _ in range(2):  # the second time there is nothing to remove
        plugin.remove_checkpoint(str(file))
    assert not file.exists()


def test_the_storage_options_name_where_the_replaced_file_goes(tmp_path):
    plugin, file, previous = AtomicCheckpointIO(), tmp_path / "a.ckpt", tmp_path / "b.ckpt"
    for step in (1, 2):
        plugin.save_checkpoint({"step": step}, file, storage_options=str(previous))
    assert plugin.load_checkpoint(file)["step"] == 2
    assert plugin.load_checkpoint(previous)["step"] == 1


def test_nothing_in_a_checkpoint_is_run(tmp_path):
    file = tmp_path / "trap.ckpt"
    file.write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match="none of it was loaded or run"):
        AtomicCheckpointIO().load_checkpoint(file, weights_only=False)


def test_the_trainer_uses_it(tiny, tiny_trainer, tmp_path):
    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(tiny())
    for _ in range(2):
        trainer.save_checkpoint(tmp_path / "a.ckpt", storage_options=tmp_path / "b.ckpt")
    assert (tmp_path / "b.ckpt").is_file()
