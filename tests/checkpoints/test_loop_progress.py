"""Counters of Lightning's loops, as `trainer.fit` leaves and reads them."""

import copy

import pytest

from tireid.checkpoints.run_state import (
    batches_done,
    epochs_done,
    set_logged_steps,
    set_to_last_step,
)


@pytest.fixture
def states(tiny, tiny_trainer):
    """Return the fit loop's state within each step, by its number, and after training."""
    found = {}
    model, trainer = tiny(), tiny_trainer()
    original = model.on_train_batch_start

    def watched(batch, batch_idx):
        found[trainer.global_step] = copy.deepcopy(trainer.fit_loop.state_dict())
        return original(batch, batch_idx)

    model.on_train_batch_start = watched
    trainer.fit(model)
    found["end"] = trainer.fit_loop.state_dict()
    return found


def test_the_place_in_an_epoch(states):
    assert [batches_done(states[step]) for step in range(8)] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert [epochs_done(states[step]) for step in range(8)] == [0] * 4 + [1] * 4
    assert (batches_done(states["end"]), epochs_done(states["end"])) == (0, 2)


def test_within_an_epoch_its_batches_are_completed_and_it_is_started(states):
    fit = states[6]  # two steps into the second epoch
    assert fit["epoch_loop.batch_progress"]["current"]["ready"] == 3
    assert set_to_last_step(fit, validation_due=False) == 6
    batch = fit["epoch_loop.batch_progress"]["current"]
    assert {batch[name] for name in ("ready", "started", "processed", "completed")} == {2}
    epoch = fit["epoch_progress"]["current"]
    assert epoch == {"ready": 2, "started": 2, "processed": 1, "completed": 1}
    assert fit["state_dict"]["combined_loader"] == [{"batches": 2}]


def test_between_epochs_everything_is_completed(states):
    fit = states["end"]
    assert set_to_last_step(fit, validation_due=False) == 8
    epoch = fit["epoch_progress"]["current"]
    assert epoch == {"ready": 2, "started": 2, "processed": 2, "completed": 2}
    assert fit["state_dict"]["combined_loader"] == [{"batches": 0}]


def test_a_validation_that_is_due_is_started_and_nothing_of_it_done(states):
    fit = states[6]
    assert set_to_last_step(fit, validation_due=True) is None
    validation = fit["epoch_loop.val_loop.batch_progress"]
    assert (validation["total"]["ready"], validation["total"]["started"]) == (1, 1)
    assert validation["total"]["processed"] == validation["total"]["completed"] == 0
    assert not any(validation["current"].values())


def test_logged_steps_are_those_of_the_loggers(tiny, tiny_trainer):
    trainer = tiny_trainer()
    set_logged_steps(trainer, 5)
    assert trainer.fit_loop.state_dict()["epoch_loop.state_dict"]["_batches_that_stepped"] == 5
