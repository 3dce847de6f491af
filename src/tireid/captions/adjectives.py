"""What adjectives say of a thing, of hair or of a person."""

from tireid.captions.attributes import Thing
from tireid.captions.vocabulary import WIDER

Adjectives = list[tuple[str, str]]
"""Names of attributes with their values, in the order of the caption."""
HAIR = {
    "color": "hair_color",
    "hair_color": "hair_color",
    "length": "hair_length",
    "style": "hair_style",
}
"""Names of hair's traits, by those of the adjectives."""
SLEEVED = ("upper", "outfit")
"""Slots whose things have sleeves."""


def give_thing(thing: Thing, adjectives: Adjectives) -> None:
    """Give a thing its adjectives; of an attribute with one value the first counts."""
    for name, value in adjectives:
        if name in ("color", "hair_color"):
            if value not in thing.colors:
                thing.colors.append(value)
        elif name == "pattern":
            thing.pattern = thing.pattern or value
        elif name == "length" and thing.slot in ("upper", "lower"):
            value = "knee-length" if value == "medium" else value
            thing.length = thing.length or value
        elif name == "sleeves" and thing.slot in SLEEVED:
            thing.sleeves = thing.sleeves or value
        elif name == "cut" and thing.kind in WIDER[value]:
            thing.kind = value


def give_hair(traits: dict[str, str], adjectives: Adjectives) -> None:
    """Give a person's hair its adjectives; the first of a kind counts."""
    for name, value in adjectives:
        if name == "color":
            value = {"gold": "blonde", "silver": "grey"}.get(value, value)
        key = HAIR.get(name)
        if key:
            traits.setdefault(key, value)


def give_person(traits: dict[str, str], adjectives: Adjectives) -> None:
    """Give a person their adjectives; the first of a kind counts."""
    for name, value in adjectives:
        if name in ("build", "height", "age", "hair_color"):
            traits.setdefault(name, value)
        elif name == "length" and value == "short":
            traits.setdefault("height", value)
