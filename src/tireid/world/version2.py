"""What version 2 of the world adds to a person of version 1: age, accessories, further clothes."""

from dataclasses import replace
from typing import Any

import numpy as np

from tireid.world.attributes import (
    ACCESSORIES,
    HELD_COLORS,
    LOWER_COLORS,
    NONE,
    SHOE_COLORS,
    Person,
    hair_colors,
    pick,
)
from tireid.world.palette import LIGHT_COLORS

_TUCKED = {"shirt": 0.5, "blouse": 0.35, "polo shirt": 0.3, "t-shirt": 0.2}  # of these tops
_CLOTHED = ("trousers", "jeans", "shorts")  # have a waistband that takes a belt
_PATTERNS = {
    "man": {NONE: 78, "floral": 4, "dotted": 4, "writing": 14},
    "woman": {NONE: 64, "floral": 18, "dotted": 10, "writing": 8},
}
_NO_CHILD = {"high heels": "sneakers", "leather shoes": "sneakers", "boots": "sneakers",
             "flats": "sandals"}  # fmt: skip


def add_version_2(person: Person, rng: np.random.Generator) -> Person:
    """Return a person of version 1 with the attributes that version 2 adds."""
    age = pick(rng, {NONE: 64, "young": 20, "child": 8, "old": 8})
    person = replace(person, age=age)
    for change in (_of_age, _top, _lower, _shoes, _hair, _carried, _accessories):
        person = replace(person, **change(person, rng))
    return person


def _of_age(person: Person, rng: np.random.Generator) -> dict[str, Any]:
    if person.age == "old" and person.hair_length != "bald":
        return {"hair_color": "grey"}
    if person.age not in ("young", "child"):
        return {}
    young: dict[str, Any] = {}
    if person.hair_length == "bald":
        young = {"hair_length": "short", "hair_color": pick(rng, hair_colors())}
    while young.get("hair_color", person.hair_color) == "grey":
        young["hair_color"] = pick(rng, hair_colors())
    if person.age == "child":
        young |= {"height": "average", "build": "average"}
        if person.outer_type in ("blazer", "coat"):
            young |= {"outer_type": "jacket"}
        if person.held_type in ("umbrella", "cup"):
            young |= {"held_type": NONE, "held_color": NONE}
        if person.bag_type == "handbag":
            young |= {"bag_type": "backpack"}
    return young


def _top(person: Person, rng: np.random.Generator) -> dict[str, Any]:
    top: dict[str, Any] = {}
    pattern = pick(rng, _PATTERNS[person.sex])
    fits = person.top_type not in ("jacket", "coat", "polo shirt", "hoodie")
    if pattern != NONE and person.top_pattern != "plain" and fits:
        top["top_pattern"] = pattern
    if person.top_color not in (*LIGHT_COLORS, person.outer_color) and rng.random() < 0.06:
        top["top_color"] = "teal"
    legs = person.lower_type in _CLOTHED
    if person.top_type in _TUCKED and legs:
        tucked = rng.random() < _TUCKED[person.top_type]
        top["top_tucked"] = "tucked" if tucked else "untucked"
    return top


def _lower(person: Person, rng: np.random.Generator) -> dict[str, Any]:
    kind = person.lower_type
    if person.sex == "woman" and kind in ("trousers", "shorts") and person.top_tucked != "tucked":
        new = pick(rng, {kind: 50, "leggings": 32, "capris": 18})
        if new != kind:
            color = pick(rng, LOWER_COLORS[new])
            return {"lower_type": new, "lower_color": color, "lower_length": "long",
                    "top_tucked": NONE}  # fmt: skip
    if kind in ("trousers", "jeans", "shorts"):
        return {"lower_fit": pick(rng, {NONE: 66, "tight": 18, "loose": 16})}
    return {}


def _shoes(person: Person, rng: np.random.Generator) -> dict[str, Any]:
    kind = person.shoes_type
    if kind == "sandals":
        kind = pick(rng, {"sandals": 55, "flip flops": 45})
    elif kind in ("leather shoes", "high heels") and person.sex == "woman":
        kind = pick(rng, {kind: 60, "flats": 40})
    if person.age == "child":
        kind = _NO_CHILD.get(kind, kind)
    changed = kind != person.shoes_type
    color = pick(rng, SHOE_COLORS[kind]) if changed else person.shoes_color
    return {"shoes_type": kind, "shoes_color": color}


def _hair(person: Person, rng: np.random.Generator) -> dict[str, Any]:
    if person.hair_style != "loose":
        return {}
    return {"hair_style": pick(rng, {"straight": 66, "curly": 34})}


def _carried(person: Person, rng: np.random.Generator) -> dict[str, Any]:
    carried: dict[str, Any] = {}
    if person.bag_type != NONE:
        carried["bag_size"] = pick(rng, {NONE: 60, "large": 20, "small": 20})
    if person.held_type == NONE and rng.random() < 0.07:
        color = pick(rng, HELD_COLORS["bicycle"])
        carried |= {"held_type": "bicycle", "held_color": color}
    return carried


def _accessories(person: Person, rng: np.random.Generator) -> dict[str, Any]:
    """Return the colours of the accessories, each drawn if the clothes leave it to be seen."""
    bare_shins = person.lower_type in ("shorts", "capris") or person.lower_length in (
        "short",
        "knee-length",
    )
    bare_wrists = person.top_sleeves != "long" and person.outer_type == NONE
    shirt = person.top_type in ("shirt", "blouse")
    man = person.sex == "man" and person.age != "child"
    shares = {
        "belt": 0.65 * (person.top_tucked == "tucked"),
        "tie": 0.35 * (man and person.top_type == "shirt"),
        "scarf": (0.05 if person.sex == "man" else 0.13) * (person.top_type != "tank top"),
        "socks": 0.65 * (bare_shins and person.shoes_type in ("sneakers", "leather shoes")),
        "watch": 0.2 * bare_wrists,
        "buttons": 0.45 * shirt,
        "collar": 0.2 * (person.top_type in ("shirt", "polo shirt")),
    }
    worn = {name for name, share in shares.items() if rng.random() < share}
    if "tie" in worn:
        worn -= {"scarf", "buttons"}
    if "scarf" in worn:
        worn.discard("buttons")
    taken = {person.top_color, person.outer_color, person.top_color2}
    colors: dict[str, Any] = {}
    for name in (name for name in shares if name in worn):
        near = taken if name in ("scarf", "tie", "buttons", "collar") else set[str]()
        free = {color: w for color, w in ACCESSORIES[name].items() if color not in near}
        colors[name] = pick(rng, free)
    return colors
