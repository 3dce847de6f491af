"""What is drawn after a restore is what was drawn after the save, on every rank."""

import random

import numpy as np
import pytest
import torch

from tireid.checkpoints.run_state import rng_states, set_rng_states

CPU = torch.device("cpu")


def draw():
    return [random.random(), np.random.random(), torch.rand(()).item()]  # noqa: NPY002, S311


def seed(number):
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002
    torch.manual_seed(number)


def test_a_restored_state_draws_the_same(tmp_path):
    seed(1)
    draw()
    torch.save(rng_states(CPU), tmp_path / "states.pt")
    expected = [draw(), draw()]
    seed(2)
    states = torch.load(tmp_path / "states.pt", weights_only=True)  # as in a checkpoint
    set_rng_states(states, 0, CPU)
    assert [draw(), draw()] == expected


def test_a_rank_that_was_not_there_stays_as_it_is_seeded():
    seed(1)
    states = rng_states(CPU)
    seed(3)
    expected = draw()
    seed(3)
    set_rng_states(states, 1, CPU)
    assert draw()[1:] == expected[1:]  # the checker of types draws from Python's


def draw_twice(rank):
    seed(rank)
    states = rng_states(CPU)
    first = draw()
    seed(9)
    set_rng_states(states, rank, CPU)
    return np.array([first, draw()])


@pytest.mark.slow
@pytest.mark.ddp
def test_each_rank_restores_its_own_state(on_two_ranks):
    zero, one = on_two_ranks(draw_twice)
    for first, second in (zero, one):
        assert (first == second).all()
    assert (zero != one).all()
