"""Attributes of synthetic people, and their random draw."""

from dataclasses import asdict, dataclass

import numpy as np

from tireid.world.palette import contrasting

NONE = "none"

_TOP_COLORS = {
    "black": 15, "white": 14, "grey": 9, "red": 9, "maroon": 5, "navy": 8, "blue": 9,
    "light blue": 6, "green": 6, "olive": 4, "yellow": 5, "orange": 4, "pink": 6, "purple": 5,
    "brown": 4, "beige": 5,
}  # fmt: skip
LOWER_COLORS = {
    "jeans": {"blue": 8, "light blue": 5, "navy": 6, "black": 4, "grey": 2},
    "trousers": {"black": 9, "navy": 5, "grey": 5, "beige": 5, "brown": 4, "olive": 3, "white": 2},
    "shorts": {"black": 6, "navy": 4, "grey": 4, "beige": 5, "blue": 4, "white": 3, "red": 2,
               "green": 2, "olive": 2},
    "skirt": {"black": 6, "navy": 3, "grey": 2, "white": 3, "red": 4, "pink": 3, "blue": 3,
              "green": 2, "purple": 2, "beige": 3, "yellow": 2},
    "leggings": {"black": 12, "grey": 4, "navy": 4, "purple": 2, "pink": 2, "white": 1},
    "capris": {"blue": 5, "black": 5, "beige": 4, "white": 3, "grey": 2, "pink": 2},
}  # fmt: skip
SHOE_COLORS = {
    "sneakers": {"white": 6, "black": 5, "grey": 3, "red": 3, "blue": 3, "pink": 1, "green": 1},
    "leather shoes": {"black": 6, "brown": 4},
    "boots": {"black": 5, "brown": 4, "beige": 2},
    "sandals": {"brown": 4, "black": 3, "beige": 2, "white": 2},
    "high heels": {"black": 5, "red": 3, "white": 2, "beige": 2},
    "flats": {"black": 6, "beige": 3, "red": 2, "silver": 2, "gold": 2},
    "flip flops": {"black": 5, "white": 3, "brown": 3, "pink": 3, "blue": 2},
}
_BAG_COLORS = {
    "black": 7, "brown": 4, "red": 3, "blue": 3, "navy": 2, "grey": 3, "green": 2, "pink": 2,
    "beige": 2, "white": 2, "yellow": 2, "purple": 1, "orange": 1,
}  # fmt: skip
_HAT_COLORS = {"black": 4, "white": 3, "red": 3, "blue": 3, "navy": 2, "beige": 3, "grey": 2}
HELD_COLORS = {
    "umbrella": {"black": 4, "red": 3, "blue": 3, "yellow": 2, "purple": 2, "green": 2, "pink": 2},
    "shopping bag": {"white": 4, "red": 2, "orange": 2, "green": 2, "blue": 2, "yellow": 1},
    "book": {"red": 2, "blue": 2, "white": 3, "green": 1, "yellow": 1},
    "bottle": {"blue": 1, "green": 1, "white": 1},
    "cup": {"white": 3, "red": 1, "brown": 1},
    "phone": {"black": 3, "white": 1},
    "bicycle": {"black": 4, "red": 3, "blue": 3, "white": 2, "green": 2, "silver": 2},
}
# Worn things of which only the colour differs; their names are fields of `Person`.
ACCESSORIES = {
    "belt": {"black": 8, "brown": 6, "white": 2, "red": 1},
    "scarf": {"red": 4, "black": 3, "grey": 3, "white": 3, "blue": 2, "pink": 2, "purple": 2,
              "green": 2, "yellow": 1, "beige": 1},
    "tie": {"black": 4, "red": 4, "blue": 3, "navy": 2, "purple": 1, "green": 1, "yellow": 1},
    "socks": {"white": 8, "black": 6, "grey": 3, "red": 1, "blue": 1, "pink": 1},
    "watch": {"black": 5, "silver": 4, "gold": 4, "brown": 2, "white": 1},
    "buttons": {"white": 5, "black": 4, "gold": 2, "brown": 1},
    "collar": {"white": 5, "black": 4, "navy": 2, "red": 2, "yellow": 1},
}  # fmt: skip
_PATTERNS = {
    "t-shirt": {"plain": 40, "striped": 20, "print": 28, "two-tone": 12},
    "shirt": {"plain": 45, "striped": 18, "checked": 37},
    "blouse": {"plain": 60, "striped": 20, "checked": 20},
    "polo shirt": {"plain": 50, "striped": 35, "two-tone": 15},
    "tank top": {"plain": 60, "striped": 25, "print": 15},
    "sweater": {"plain": 45, "striped": 30, "print": 10, "two-tone": 15},
    "hoodie": {"plain": 50, "print": 30, "two-tone": 20},
    "jacket": {"plain": 75, "two-tone": 25},
    "coat": {"plain": 80, "checked": 20},
    "dress": {"plain": 50, "striped": 20, "checked": 15, "two-tone": 15},
}
_SLEEVES = {
    "t-shirt": {"short": 88, "long": 12},
    "shirt": {"long": 60, "short": 40},
    "blouse": {"long": 55, "short": 45},
    "polo shirt": {"short": 85, "long": 15},
    "tank top": {"sleeveless": 1},
    "dress": {"sleeveless": 45, "short": 40, "long": 15},
}
_TOPS = {
    "man": {"t-shirt": 30, "shirt": 20, "polo shirt": 10, "sweater": 14, "hoodie": 13,
            "jacket": 13},
    "woman": {"t-shirt": 22, "blouse": 20, "tank top": 8, "sweater": 13, "dress": 15, "hoodie": 7,
              "jacket": 10, "coat": 5},
}  # fmt: skip
_OUTERS = {
    "man": {"jacket": 5, "blazer": 3, "coat": 2},
    "woman": {"jacket": 4, "cardigan": 4, "blazer": 2, "coat": 2},
}
_LAYERED = ("t-shirt", "shirt", "blouse", "sweater", "tank top")
_LOWERS = {
    "man": {"trousers": 36, "jeans": 40, "shorts": 24},
    "woman": {"trousers": 22, "jeans": 34, "shorts": 16, "skirt": 28},
}
_SHOES = {
    "man": {"sneakers": 55, "leather shoes": 22, "boots": 13, "sandals": 10},
    "woman": {"sneakers": 42, "leather shoes": 10, "boots": 17, "sandals": 15, "high heels": 16},
}
_HAIR = {
    "man": {"bald": 6, "short": 74, "medium": 14, "long": 6},
    "woman": {"short": 14, "medium": 34, "long": 52},
}
_HAIR_STYLES = {
    "bald": {NONE: 1},
    "short": {NONE: 1},
    "medium": {"loose": 70, "ponytail": 20, "bun": 10},
    "long": {"loose": 52, "ponytail": 33, "bun": 15},
}
_BAGS = {
    "man": {NONE: 42, "backpack": 32, "shoulder bag": 22, "handbag": 4},
    "woman": {NONE: 32, "backpack": 22, "shoulder bag": 24, "handbag": 22},
}
_HATS = {
    "man": {NONE: 80, "cap": 13, "beanie": 7},
    "woman": {NONE: 84, "cap": 5, "beanie": 4, "sun hat": 7},
}
_GLASSES = {NONE: 76, "glasses": 15, "sunglasses": 9}
_HELD = {NONE: 60, "phone": 10, "umbrella": 6, "bottle": 6, "book": 6, "shopping bag": 8, "cup": 4}


@dataclass(frozen=True)
class Person:
    """The look and the belongings of an identity; absent things are the string `none`.

    Colours are keys of `palette.COLORS`, hair and skin of the tables beside it. A dress is a
    `top_type`, has its length in `lower_length`, and leaves `lower_type` at `none`.

    The fields from `age` on are those of version 2; they are `none` in version 1. The last ones
    are colours: those of `ACCESSORIES`.
    """

    sex: str
    build: str
    height: str
    skin: str
    hair_length: str
    hair_style: str
    hair_color: str
    top_type: str
    top_color: str
    top_pattern: str
    top_color2: str
    top_sleeves: str
    outer_type: str
    outer_color: str
    lower_type: str
    lower_color: str
    lower_length: str
    shoes_type: str
    shoes_color: str
    bag_type: str
    bag_color: str
    bag_side: str
    hat_type: str
    hat_color: str
    glasses: str
    held_type: str
    held_color: str
    age: str = NONE
    top_tucked: str = NONE
    lower_fit: str = NONE
    bag_size: str = NONE
    belt: str = NONE
    scarf: str = NONE
    tie: str = NONE
    socks: str = NONE
    watch: str = NONE
    buttons: str = NONE
    collar: str = NONE

    def to_dict(self, version: int) -> dict[str, str]:
        """Return the attributes that people of a version have, by name."""
        added = ("age", "top_tucked", "lower_fit", "bag_size", *ACCESSORIES)
        names = asdict(self)
        return names if version > 1 else {n: v for n, v in names.items() if n not in added}


def pick(rng: np.random.Generator, weights: dict[str, int]) -> str:
    """Return one key of `weights`, drawn in proportion to its weight."""
    mark = rng.random() * sum(weights.values())
    for key, weight in weights.items():
        mark -= weight
        if mark < 0:
            return key
    return next(reversed(weights))


def sample_person(rng: np.random.Generator) -> Person:
    """Draw one identity."""
    sex = pick(rng, {"man": 52, "woman": 48})
    hair_length = pick(rng, _HAIR[sex])
    top = _sample_top(rng, sex)
    lower = _sample_lower(rng, sex, top["top_type"])
    shoes = pick(rng, _SHOES[sex])
    bag, hat, held = pick(rng, _BAGS[sex]), pick(rng, _HATS[sex]), pick(rng, _HELD)
    return Person(
        sex=sex,
        build=pick(rng, {"average": 56, "slim": 24, "heavy": 20}),
        height=pick(rng, {"average": 64, "tall": 18, "short": 18}),
        skin=pick(rng, {"light": 38, "medium": 30, "tan": 18, "dark": 14}),
        hair_length=hair_length,
        hair_style=pick(rng, _HAIR_STYLES[hair_length]),
        hair_color=NONE if hair_length == "bald" else pick(rng, hair_colors()),
        **top,
        **lower,
        shoes_type=shoes,
        shoes_color=pick(rng, SHOE_COLORS[shoes]),
        bag_type=bag,
        bag_color=NONE if bag == NONE else pick(rng, _BAG_COLORS),
        bag_side=pick(rng, {"left": 1, "right": 1}),
        hat_type=hat,
        hat_color=NONE if hat == NONE else pick(rng, _HAT_COLORS),
        glasses=pick(rng, _GLASSES),
        held_type=held,
        held_color=NONE if held == NONE else pick(rng, HELD_COLORS[held]),
    )


def hair_colors() -> dict[str, int]:
    """Return the hair colours with their weights."""
    return {"black": 46, "brown": 28, "blonde": 12, "grey": 8, "red": 6}


def _sample_top(rng: np.random.Generator, sex: str) -> dict[str, str]:
    top = pick(rng, _TOPS[sex])
    color = pick(rng, _TOP_COLORS)
    pattern = pick(rng, _PATTERNS[top])
    second = NONE if pattern == "plain" else str(rng.choice(contrasting(color)))
    outer = pick(rng, _OUTERS[sex]) if top in _LAYERED and rng.random() < 0.3 else NONE
    outer_weights = {name: w for name, w in _TOP_COLORS.items() if name != color}
    return {
        "top_type": top,
        "top_color": color,
        "top_pattern": pattern,
        "top_color2": second,
        "top_sleeves": pick(rng, _SLEEVES.get(top, {"long": 1})),
        "outer_type": outer,
        "outer_color": NONE if outer == NONE else pick(rng, outer_weights),
    }


def _sample_lower(rng: np.random.Generator, sex: str, top: str) -> dict[str, str]:
    skirts = {"short": 30, "knee-length": 45, "long": 25}
    if top == "dress":
        return {"lower_type": NONE, "lower_color": NONE, "lower_length": pick(rng, skirts)}
    lower = pick(rng, _LOWERS[sex])
    lengths = {"skirt": skirts, "shorts": {"short": 40, "knee-length": 60}}
    return {
        "lower_type": lower,
        "lower_color": pick(rng, LOWER_COLORS[lower]),
        "lower_length": pick(rng, lengths.get(lower, {"long": 1})),
    }


def choices(person: Person, field: str) -> tuple[str, ...]:
    """Return the values other than its own that one attribute of `person` may take alone.

    Alone means: with every other attribute left as it is, the result still makes sense. Empty if
    the attribute is absent from this person or hangs on others.
    """
    tables: dict[str, dict[str, int]] = {
        "build": {"slim": 1, "average": 1, "heavy": 1},
        "height": {"short": 1, "average": 1, "tall": 1},
        "hair_color": {} if person.age == "old" else hair_colors(),
        "top_type": {} if person.top_type == "dress" else {"t-shirt": 1, "shirt": 1, "sweater": 1},
        "top_color": _TOP_COLORS,
        "top_sleeves": _SLEEVES.get(person.top_type, {}),
        "outer_type": _OUTERS[person.sex],
        "outer_color": _TOP_COLORS,
        "lower_color": LOWER_COLORS.get(person.lower_type, {}),
        "shoes_type": _SHOES[person.sex],
        "shoes_color": SHOE_COLORS[person.shoes_type],
        "bag_type": {kind: w for kind, w in _BAGS[person.sex].items() if kind != NONE},
        "bag_color": _BAG_COLORS,
        "hat_color": _HAT_COLORS,
        "held_color": HELD_COLORS.get(person.held_type, {}),
        "top_tucked": {"tucked": 1, "untucked": 1} if person.belt == NONE else {},
        "lower_fit": {"tight": 1, "loose": 1},
        "bag_size": {"small": 1, "large": 1},
        **ACCESSORIES,
    }  # fmt: skip
    own = getattr(person, field)
    if field not in tables or own == NONE:
        return ()
    banned = {own}
    if field in ("top_color", "outer_color", "buttons", "collar"):
        banned |= {person.top_color, person.outer_color, person.buttons, person.collar}
    if field == "top_color" and person.top_color2 != NONE:
        banned |= {name for name in _TOP_COLORS if person.top_color2 not in contrasting(name)}
    return tuple(value for value in tables[field] if value not in banned)
