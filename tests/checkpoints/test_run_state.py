"""What is added to a checkpoint, and in which moments it is restored."""

from unittest.mock import create_autospec

import lightning as L
import pytest
import torch

from tireid.checkpoints.run_state import STATE, Resumption, add_state
from tireid.data.resumable_loader import ResumableDataLoader


@pytest.fixture
def checkpoint(tiny, tiny_trainer):
    """Return a function to the content of a checkpoint in the middle of a first epoch."""

    def make(*, between_steps, validation_due=False):
        model, trainer = tiny(), tiny_trainer(max_steps=2)
        content = {}

        def save(batch, batch_idx):
            if batch_idx == 1:
                content.update(trainer._checkpoint_connector.dump_checkpoint())
                add_state(
                    trainer,
                    model,
                    content,
                    "a hash",
                    {"train": "another"},
                    between_steps=between_steps,
                    validation_due=validation_due,
                )

        model.on_train_batch_start = save
        trainer.fit(model)
        return content

    return make


def test_a_checkpoint_between_steps_says_exactly_where_it_stands(checkpoint):
    content = checkpoint(between_steps=True)
    state = content[STATE]
    assert state["settings"] == "a hash"
    assert state["method"] == "Tiny"
    assert (state["batches"], state["logged_steps"]) == (1, 1)
    assert state["should_stop"] is False
    assert "train/loss" in state["rows"]
    assert len(state["generators"]) == 1
    assert content["epoch"] == 0
    assert content["loops"]["fit_loop"]["state_dict"]["combined_loader"] == [{"batches": 1}]


def test_another_checkpoint_leaves_the_counters_to_lightning(checkpoint):
    state = checkpoint(between_steps=False)[STATE]
    assert (state["batches"], state["logged_steps"]) == (1, None)


def test_where_a_validation_is_due_the_step_is_not_done(checkpoint, tiny_trainer):
    content = checkpoint(between_steps=True, validation_due=True)
    assert not Resumption(tiny_trainer(), content).step_is_done


def test_each_part_is_restored_in_its_moment(checkpoint, tiny, tiny_trainer, tmp_path):
    content = checkpoint(between_steps=True)
    content[STATE]["should_stop"] = True
    torch.manual_seed(5)
    content[STATE]["generators"] = [
        content[STATE]["generators"][0] | {"torch": torch.get_rng_state()}
    ]
    expected = torch.rand(())

    trainer = tiny_trainer(folder=tmp_path / "resumed")
    resumption = Resumption(trainer, content)  # on loading
    assert resumption.step_is_done
    assert trainer.should_stop
    assert (tmp_path / "resumed" / "metrics.csv").read_text() == content[STATE]["rows"]

    model, loader = tiny(), create_autospec(ResumableDataLoader, instance=True)
    stub = create_autospec(L.Trainer, instance=True, train_dataloader=loader)
    begun = []
    model.on_train_epoch_start = lambda: begun.append(True)
    resumption.restore_place(stub, model)  # at the start of training
    assert begun == [True]
    loader.load_state_dict.assert_called_once_with({"batches": 1})

    resumption.restore_counters(trainer)  # at the first step
    assert trainer.fit_loop.epoch_loop._batches_that_stepped == 1
    assert torch.rand(()) == expected
