from dataclasses import asdict

import numpy as np
import pytest

from tireid.world import WorldSettings
from tireid.world.attributes import NONE, Person, choices, sample_person
from tireid.world.identities import make_population, make_twin
from tireid.world.palette import COLORS, contrasting


def test_splits_are_disjoint_and_numbered_as_the_layout_counts():
    sizes = {"num_train_ids": 5, "num_val_ids": 2, "num_test_ids": 3}
    cuhk = make_population(WorldSettings(**sizes))
    assert [(p.pid, p.split) for p in cuhk] == [
        *[(pid, "train") for pid in range(1, 6)],
        *[(pid, "val") for pid in range(6, 8)],
        *[(pid, "test") for pid in range(8, 11)],
    ]
    icfg = make_population(WorldSettings(**sizes, layout="icfg_pedes"))
    assert [p.pid for p in icfg] == list(range(10))
    assert [p.split for p in icfg] == ["train"] * 7 + ["test"] * 3


def test_nobody_looks_like_anybody_else():
    people = [i.person for i in make_population(WorldSettings(num_train_ids=600))]
    assert len(set(people)) == len(people)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_twins_differ_in_one_or_two_attributes_and_share_a_split(fraction: float):
    settings = WorldSettings(
        num_train_ids=40, num_val_ids=10, num_test_ids=20, twin_fraction=fraction
    )
    by_pid = {identity.pid: identity for identity in make_population(settings)}
    for split, size in (("train", 40), ("val", 10), ("test", 20)):
        twins = [i for i in by_pid.values() if i.split == split and i.twin is not None]
        assert len(twins) == 2 * min(round(fraction * size / 2), size // 2)
        for identity in twins:
            other = by_pid[identity.twin]
            assert other.twin == identity.pid
            assert other.split == split
            mine, others = asdict(identity.person), asdict(other.person)
            assert 1 <= sum(mine[name] != others[name] for name in mine) <= 2


def test_twins_stay_consistent():
    rng = np.random.default_rng(0)
    for _ in range(300):
        twin = make_twin(sample_person(rng), rng)
        check_consistent(twin)


def test_people_are_consistent():
    rng = np.random.default_rng(1)
    for _ in range(500):
        check_consistent(sample_person(rng))


def check_consistent(person: Person):
    for kind in ("bag", "hat", "held", "outer"):
        absent = getattr(person, f"{kind}_type") == NONE
        assert (getattr(person, f"{kind}_color") == NONE) == absent
    assert (person.lower_type == NONE) == (person.top_type == "dress")
    assert (person.top_color2 == NONE) == (person.top_pattern == "plain")
    assert person.outer_type == NONE or person.outer_color != person.top_color
    if person.top_color2 != NONE:
        assert person.top_color2 in contrasting(person.top_color)
    assert person.top_color in COLORS


def test_choices_leave_out_what_is_absent_and_what_it_is_now():
    rng = np.random.default_rng(2)
    people = [sample_person(rng) for _ in range(50)]
    for person in people:
        assert person.top_color not in choices(person, "top_color")
        if person.bag_type == NONE:
            assert choices(person, "bag_color") == ()
