"""Captions: sentences about what one view of a person shows, from coarse to fine."""

from collections.abc import Set
from dataclasses import dataclass, replace

import numpy as np

from tireid.world.attributes import Person, choices
from tireid.world.phrases import Wording
from tireid.world.sentences import sentences
from tireid.world.visibility import Sight

# How readily people mention an attribute that they see.
_SALIENCE: dict[str, float] = {
    "sex": 60, "top_color": 14, "top_type": 9, "lower_color": 10, "lower_type": 9,
    "outer_type": 7, "outer_color": 7, "bag_type": 6, "hair_color": 4, "hair_length": 4,
    "shoes_color": 6, "shoes_type": 3, "bag_color": 6, "top_pattern": 6, "top_color2": 5,
    "hat_type": 5, "hat_color": 5, "glasses": 4, "held_type": 6, "held_color": 5,
    "hair_style": 3, "top_sleeves": 2.5, "lower_length": 2, "build": 1.5, "height": 1,
    "age": 8, "belt": 3, "scarf": 6, "tie": 6, "socks": 4, "watch": 2, "buttons": 2, "collar": 2,
    "top_tucked": 1.5, "lower_fit": 1.5, "bag_size": 2,
}  # fmt: skip
# An attribute that cannot be said without another one.
_NEEDS = {
    "held_color": "held_type",
    "outer_color": "outer_type",
    "top_color2": "top_pattern",
    "lower_length": "lower_type",
    "lower_fit": "lower_type",
    "bag_size": "bag_type",
    "top_tucked": "top_type",
    "collar": "top_type",
    "buttons": "top_type",
}


@dataclass(frozen=True)
class Caption:
    """A caption of an image.

    Attributes:
        text: The caption.
        mentioned: Attributes that it names, sorted.
        wrong: Those of them that it misnames, sorted.
    """

    text: str
    mentioned: tuple[str, ...]
    wrong: tuple[str, ...]


def write_caption(
    person: Person,
    sight: Sight,
    *,
    detail: float,
    noise: float,
    rng: np.random.Generator,
    version: int = 1,
) -> Caption:
    """Write one caption of an image.

    Args:
        person: The person in the image.
        sight: The visible things of the image.
        detail: Mean share of the visible attributes that is mentioned, 0 to 1.
        noise: Probability that one mentioned attribute is misnamed, 0 to 1.
        rng: Source of all choices.
        version: Version of the world.

    Returns:
        The caption with the attributes that it names.
    """
    mentioned = choose_mentioned(sight.visible, detail, rng)
    told, wrong = person, ()
    if rng.random() < noise:
        told, wrong = _misname(person, mentioned, rng)
    words = Wording(told, mentioned, rng, version)
    return Caption(sentences(words, sight), tuple(sorted(mentioned)), wrong)


def choose_mentioned(visible: Set[str], detail: float, rng: np.random.Generator) -> frozenset[str]:
    """Draw which of the visible attributes a caption mentions, striking ones more often."""
    names = sorted(visible)
    spread = min(0.2, detail / 2, (1 - detail) / 2)
    share = float(np.clip(rng.normal(detail, spread), 0, 1))
    count = int(share * len(names) + rng.random())
    keys = np.log([_SALIENCE[name] for name in names]) + rng.gumbel(size=len(names))
    chosen = {names[i] for i in np.argsort(-keys, kind="stable")[:count]}
    for child, parent in _NEEDS.items():
        # A dress has no `lower_type`: its length belongs to the top.
        needed = parent if parent in visible else "top_type"
        if child in chosen and needed not in chosen:
            chosen = chosen - {child} | {needed}
    return frozenset(chosen)


def _misname(
    person: Person, mentioned: Set[str], rng: np.random.Generator
) -> tuple[Person, tuple[str, ...]]:
    able = [name for name in sorted(mentioned) if choices(person, name)]
    if not able:
        return person, ()
    name = able[int(rng.integers(len(able)))]
    options = choices(person, name)
    return replace(person, **{name: options[int(rng.integers(len(options)))]}), (name,)
