"""The attributes that a caption names."""

from dataclasses import dataclass, field

SLOTS = ("upper", "lower", "outfit", "shoes", "bag", "hat", "glasses", "held", "accessory")
TRAITS = ("sex", "age", "build", "height", "hair_length", "hair_style", "hair_color")


@dataclass(slots=True)
class Thing:
    """One thing that the person wears or carries.

    Attributes:
        slot: Which of `SLOTS`; a dress is an upper garment, `outfit` is all clothes together.
        kind: Class of the thing, such as `jeans`; the slot's widest, such as `top`, for a word
            that tells no more.
        word: The words of the caption for it, in lower case with spaces for hyphens.
        colors: Basic colours with their shade (`dark blue` for navy), or a shade alone. Those of
            stripes and prints count too, and both of "black or blue".
        pattern: Such as `striped`; empty if the caption tells none, as all that follow.
        length: `short`, `knee-length` or `long`.
        sleeves: `short`, `long` or `sleeveless`.
        absent: Whether the caption says that it is not there.
    """

    slot: str
    kind: str
    word: str
    colors: list[str] = field(default_factory=list)
    pattern: str = ""
    length: str = ""
    sleeves: str = ""
    absent: bool = False


@dataclass(slots=True)
class Description:
    """What a caption says of a person; empty where it says nothing.

    Attributes:
        traits: Values of `TRAITS` by name; `hair_color` as the colours of things.
        things: Clothes and things, in the order of the caption, absent ones included.
    """

    traits: dict[str, str] = field(default_factory=dict)
    things: list[Thing] = field(default_factory=list)

    def values(self) -> dict[str, set[str]]:
        """Return all values by attribute: `TRAITS`, and `upper_type`, `upper_color` and so on.

        Absent things are left out, and so is what the caption does not name.
        """
        found = {name: {value} for name, value in self.traits.items()}
        for thing in self.things:
            if thing.absent:
                continue
            slot = thing.slot
            found.setdefault(f"{slot}_type", set()).add(thing.kind)
            if thing.colors:
                found.setdefault(f"{slot}_color", set()).update(thing.colors)
            for name in ("pattern", "length", "sleeves"):
                value = getattr(thing, name)
                if value:
                    found.setdefault(f"{slot}_{name}", set()).add(value)
        return found
