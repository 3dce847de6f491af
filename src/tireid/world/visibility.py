"""Attributes of a person that an image shows, from the record of visible parts."""

from collections.abc import Set
from dataclasses import dataclass

import numpy as np

from tireid.world import parts
from tireid.world.attributes import NONE, Person
from tireid.world.canvas import Array

# Least share of the person's pixels that makes a part count as seen.
_LEAST: dict[int, float] = {
    parts.HAIR: 0.008,
    parts.TOP: 0.03,
    parts.PRINT: 0.004,
    parts.OUTER: 0.03,
    parts.LOWER: 0.03,
    parts.SHOES: 0.004,
    parts.BAG: 0.01,
    parts.STRAP: 0.005,
    parts.HAT: 0.006,
    parts.GLASSES: 0.0012,
    parts.HELD: 0.003,
    parts.BELT: 0.004,
    parts.SCARF: 0.008,
    parts.TIE: 0.004,
    parts.SOCKS: 0.004,
    parts.WATCH: 0.0015,
    parts.BUTTONS: 0.0012,
    parts.COLLAR: 0.004,
}
_ACCESSORIES = {
    parts.BELT: "belt",
    parts.SCARF: "scarf",
    parts.TIE: "tie",
    parts.SOCKS: "socks",
    parts.WATCH: "watch",
    parts.BUTTONS: "buttons",
    parts.COLLAR: "collar",
}


@dataclass(frozen=True)
class Sight:
    """The visible things of an image that a caption may mention.

    Attributes:
        visible: Names of the attributes that can be seen.
        view: Side from which the person is seen, a key of `pose.VIEWS`.
        walking: False for a person who stands.
        scene: Family of the surroundings, one of `background.SCENES`.
        straps_only: Whether only the straps of the bag are seen.
    """

    visible: Set[str]
    view: str
    walking: bool
    scene: str
    straps_only: bool


def seen_parts(record: Array) -> frozenset[int]:
    """Return the numbers of the parts that an image shows well enough to be named.

    Args:
        record: Part number of each pixel of the final crop, uint8.
    """
    counts = np.bincount(record.ravel(), minlength=256)
    person = int(counts[1 : parts.OCCLUDER].sum())
    return frozenset(p for p, share in _LEAST.items() if counts[p] >= max(1.0, share * person))


def visible_attributes(person: Person, view: str, seen: frozenset[int]) -> frozenset[str]:
    """Return the names of the attributes that a caption may speak of.

    Args:
        person: The person in the image.
        view: Side from which it is seen, a key of `pose.VIEWS`.
        seen: Parts that the image shows, from `seen_parts`.
    """
    names = {"sex", "age", *(_ACCESSORIES[part] for part in seen & _ACCESSORIES.keys())}
    behind = view.startswith("back")
    names |= {name for name in ("build", "height") if getattr(person, name) != "average"}
    if parts.HAIR in seen:
        names |= _hair_attributes(person, view)
    if parts.TOP in seen or parts.PRINT in seen:
        names |= _top_attributes(person, behind, seen)
    if parts.OUTER in seen and person.outer_type != NONE:
        names |= {"outer_type", "outer_color"}
    if parts.LOWER in seen:
        names |= {"lower_type", "lower_color", "lower_fit"}
        if person.lower_type in ("shorts", "skirt"):
            names.add("lower_length")
    if person.top_type == "dress" and parts.TOP in seen:
        names.add("lower_length")
    simple = {
        parts.SHOES: ("shoes_type", "shoes_color"),
        parts.HAT: ("hat_type", "hat_color"),
        parts.HELD: ("held_type", "held_color"),
    }
    for part, attributes in simple.items():
        if part in seen:
            names.update(attributes)
    if parts.GLASSES in seen and not behind:
        names.add("glasses")
    if parts.BAG in seen or parts.STRAP in seen:
        names |= {"bag_type", "bag_color"}
    if parts.BAG in seen:
        names.add("bag_size")
    if person.outer_type == NONE and parts.TOP in seen and parts.LOWER in seen:
        names.add("top_tucked")
    return frozenset(name for name in names if getattr(person, name) != NONE)


def _hair_attributes(person: Person, view: str) -> set[str]:
    tied = person.hair_style in ("ponytail", "bun")
    if tied and view.startswith("front"):
        # What is tied at the back does not show from the front, nor how long it is.
        return {"hair_color"}
    return {"hair_color", "hair_length", "hair_style"}


def _top_attributes(person: Person, behind: bool, seen: frozenset[int]) -> set[str]:
    names = {"top_type", "top_color"}
    if person.outer_type == NONE:
        names.add("top_sleeves")
    if person.top_pattern not in ("print", "writing") or (parts.PRINT in seen and not behind):
        names |= {"top_pattern", "top_color2"}
    return names
