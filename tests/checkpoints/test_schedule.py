"""A checkpoint is due by the clock, by steps, after an epoch, and never twice a step."""

import pytest

from tireid.checkpoints import schedule
from tireid.checkpoints.schedule import CheckpointSchedule


@pytest.fixture
def clock(monkeypatch):
    """Return a clock in seconds that the test sets."""
    times = [1000.0]
    monkeypatch.setattr(schedule.time, "monotonic", lambda: times[0])
    return times


def test_minutes_count_from_the_start_and_from_each_checkpoint(clock):
    rules = CheckpointSchedule(minutes=5, every_n_train_steps=None)
    rules.start(None)
    clock[0] += 299
    assert not rules.is_due(10)
    clock[0] += 1
    assert rules.is_due(10)
    rules.written(10)
    assert not rules.is_due(11)
    clock[0] += 300
    assert not rules.is_due(10)  # there is one of this step
    assert rules.is_due(11)


def test_steps_count_from_zero_whenever_a_checkpoint_was_written():
    rules = CheckpointSchedule(minutes=None, every_n_train_steps=3)
    rules.start(None)
    assert [step for step in range(10) if rules.is_due(step)] == [3, 6, 9]
    rules.written(4)
    assert [step for step in range(10) if rules.is_due(step)] == [0, 3, 6, 9]


def test_an_epoch_makes_one_due_until_it_is_written():
    rules = CheckpointSchedule(minutes=None, every_n_train_steps=None)
    rules.start(None)
    assert not rules.is_due(4)
    rules.epoch_ended()
    assert rules.is_due(4)
    rules.written(4)
    assert rules.is_written(4)
    assert not rules.is_due(4)
    assert not rules.is_due(5)


def test_a_resumed_run_has_the_checkpoint_it_comes_from():
    rules = CheckpointSchedule(minutes=None, every_n_train_steps=1)
    rules.start(7)
    assert rules.is_written(7)
    assert not rules.is_due(7)
    assert rules.is_due(8)
