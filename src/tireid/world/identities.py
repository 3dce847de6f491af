"""The population of a world: distinct identities in disjoint splits, near twins among them."""

from dataclasses import dataclass, replace

import numpy as np

from tireid.world.attributes import NONE, Person, choices, sample_person
from tireid.world.settings import WorldSettings
from tireid.world.version2 import add_version_2

_STREAM_POPULATION = 1
# Attributes in which near twins differ: an image shows them and a caption may name them.
_TWIN_FIELDS = (
    "top_color", "lower_color", "outer_color", "shoes_color", "bag_color", "hat_color",
    "hair_color", "bag_type", "outer_type", "top_sleeves", "held_color", "lower_fit", "bag_size",
    "belt", "scarf", "tie", "socks",
)  # fmt: skip
_REMOVABLE = (
    ("bag_type", "bag_color"),
    ("hat_type", "hat_color"),
    ("held_type", "held_color"),
    ("scarf", "scarf"),
)


@dataclass(frozen=True)
class Identity:
    """One identity of a world.

    Attributes:
        pid: Number in the annotation file, as the layout counts.
        ordinal: Position in the world, 0-based; the key of all its draws.
        split: `train`, `val` or `test` as written.
        person: Its attributes.
        twin: `pid` of its near twin, if it has one.
    """

    pid: int
    ordinal: int
    split: str
    person: Person
    twin: int | None


def _sample(version: int, rng: np.random.Generator) -> Person:
    person = sample_person(rng)
    return person if version == 1 else add_version_2(person, rng)


def make_twin(person: Person, rng: np.random.Generator) -> Person:
    """Return a person that differs from `person` in one or two attributes."""
    if rng.random() < 0.25:
        owned = [pair for pair in _REMOVABLE if getattr(person, pair[0]) != NONE]
        if owned:
            kind, color = owned[int(rng.integers(len(owned)))]
            return replace(person, **{kind: NONE, color: NONE})
    able = [name for name in _TWIN_FIELDS if choices(person, name)]
    count = min(len(able), 1 + int(rng.random() < 0.5))
    twin = person
    for index in rng.permutation(len(able))[:count]:
        options = choices(twin, able[index])
        if options:
            twin = replace(twin, **{able[index]: options[int(rng.integers(len(options)))]})
    return twin


def make_population(settings: WorldSettings) -> list[Identity]:
    """Return the identities of all splits, in the order of their numbers.

    The same settings give the same people; no two of a world look the same.
    """
    rng = np.random.default_rng([settings.seed, _STREAM_POPULATION])
    first_pid = 1 if settings.layout == "cuhk_pedes" else 0
    seen: set[Person] = set()
    population: list[Identity] = []
    val_split = "train" if settings.layout == "icfg_pedes" else "val"
    sizes = (settings.num_train_ids, settings.num_val_ids, settings.num_test_ids)
    for split, size in zip(("train", val_split, "test"), sizes, strict=True):
        people, twins = _make_split(size, settings, rng, seen)
        start = len(population)
        population += [
            Identity(
                pid=first_pid + start + place,
                ordinal=start + place,
                split=split,
                person=person,
                twin=None if place not in twins else first_pid + start + twins[place],
            )
            for place, person in enumerate(people)
        ]
    return population


def _make_split(
    size: int, settings: WorldSettings, rng: np.random.Generator, seen: set[Person]
) -> tuple[list[Person], dict[int, int]]:
    """Return `size` people and, by place, the place of each one's twin."""
    pairs = min(round(settings.twin_fraction * size / 2), size // 2)
    people: list[Person] = []
    for _ in range(size - pairs):
        people.append(_draw_new(settings.version, rng, seen))
    for base in range(pairs):
        twin = make_twin(people[base], rng)
        while twin in seen:
            twin = make_twin(people[base], rng)
        seen.add(twin)
        people.append(twin)
    order = rng.permutation(size)
    place = np.argsort(order)
    twins: dict[int, int] = {}
    for base in range(pairs):
        one, other = int(place[base]), int(place[size - pairs + base])
        twins[one], twins[other] = other, one
    return [people[i] for i in order], twins


def _draw_new(version: int, rng: np.random.Generator, seen: set[Person]) -> Person:
    person = _sample(version, rng)
    while person in seen:
        person = _sample(version, rng)
    seen.add(person)
    return person
