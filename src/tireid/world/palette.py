"""Colours of the synthetic world: how they look and the words people use for them."""

from typing import NamedTuple


class Color(NamedTuple):
    """One colour.

    Attributes:
        rgb: Red, green, blue, 0 to 255, under neutral light.
        words: Names for it; the first is the plainest.
        vague: Wider words that are also true of it, such as "dark".
        more: Further names, which version 2 of the world uses.
    """

    rgb: tuple[int, int, int]
    words: tuple[str, ...]
    vague: tuple[str, ...]
    more: tuple[str, ...] = ()


_LIGHT = ("light", "light-colored", "pale")
_DARK = ("dark", "dark-colored")
_BRIGHT = ("bright", "brightly colored", "colorful")

COLORS: dict[str, Color] = {
    "black": Color((34, 34, 38), ("black",), _DARK),
    "white": Color((238, 238, 234), ("white", "white", "off-white"), ("light", "light-colored")),
    "grey": Color((134, 136, 140), ("grey", "gray"), ("greyish", "neutral-colored")),
    "red": Color((200, 32, 40), ("red", "bright red"), ("reddish", *_BRIGHT)),
    "maroon": Color(
        (112, 24, 42),
        ("dark red", "maroon", "burgundy"),
        ("red", "reddish", *_DARK),
        ("wine red", "deep red"),
    ),
    "navy": Color(
        (30, 40, 92), ("dark blue", "navy", "navy blue"), ("blue", "bluish", *_DARK), ("deep blue",)
    ),
    "blue": Color((36, 88, 190), ("blue",), ("bluish",), ("royal blue", "bright blue")),
    "light blue": Color(
        (140, 188, 230),
        ("light blue", "sky blue"),
        ("blue", "bluish", *_LIGHT),
        ("baby blue", "pale blue"),
    ),
    "green": Color((38, 136, 68), ("green",), ("greenish",), ("lime green", "bright green")),
    "olive": Color(
        (84, 88, 48), ("dark green", "olive", "olive green"), ("green", "greenish"), ("army green",)
    ),
    "yellow": Color((240, 204, 44), ("yellow",), _BRIGHT, ("bright yellow", "mustard")),
    "orange": Color((236, 122, 32), ("orange",), _BRIGHT, ("bright orange", "peach")),
    "pink": Color(
        (240, 148, 178), ("pink", "light pink"), ("pinkish", *_LIGHT), ("bright pink", "rose")
    ),
    "purple": Color(
        (112, 56, 146), ("purple", "violet"), ("purplish",), ("lavender", "dark purple")
    ),
    "brown": Color(
        (108, 68, 40),
        ("brown", "dark brown"),
        ("brownish", *_DARK),
        ("chocolate brown", "chestnut"),
    ),
    "beige": Color(
        (208, 186, 150),
        ("beige", "tan", "khaki", "cream-colored"),
        _LIGHT,
        ("light brown", "cream", "sand-colored"),
    ),
}
COLORS |= {  # of version 2
    "teal": Color((30, 138, 142), ("teal", "turquoise"), ("bluish", "greenish"), ("aqua",)),
    "gold": Color((204, 164, 62), ("gold",), ("golden",)),
    "silver": Color((196, 198, 204), ("silver",), ("silver-colored",)),
}

HAIR_COLORS: dict[str, Color] = {
    "black": Color((26, 22, 24), ("black", "jet black"), ("dark",)),
    "brown": Color((84, 54, 34), ("brown", "brunette", "chestnut"), ("brownish",)),
    "blonde": Color((206, 166, 92), ("blonde", "blond", "fair"), ("light", "light-colored")),
    "grey": Color((158, 156, 156), ("grey", "gray", "silver"), ("greying",)),
    "red": Color((150, 66, 30), ("red", "ginger", "auburn"), ("reddish",)),
}

SKIN_TONES: dict[str, tuple[int, int, int]] = {
    "light": (238, 200, 174),
    "medium": (214, 164, 128),
    "tan": (176, 122, 84),
    "dark": (104, 70, 50),
}

LIGHT_COLORS = frozenset({"white", "light blue", "yellow", "pink", "beige", "grey"})


def contrasting(color: str) -> tuple[str, ...]:
    """Return the colours that stay distinct beside `color` in a pattern, also in poor light."""
    if color in LIGHT_COLORS:
        return ("black", "navy", "red", "blue", "green", "purple", "maroon")
    return ("white", "yellow", "light blue", "pink", "beige")
