"""Noun phrases of the captions: a person's attributes in varied English."""

from collections.abc import Sequence, Set

import numpy as np

from tireid.world.attributes import Person
from tireid.world.palette import COLORS, HAIR_COLORS, Color

_VAGUE_SHARE = 0.12
_KINDS: dict[str, tuple[str, ...]] = {
    "t-shirt": ("t-shirt", "t-shirt", "tee shirt", "tee"),
    "shirt": ("shirt", "button-up shirt", "button-down shirt", "collared shirt"),
    "blouse": ("blouse", "blouse", "buttoned blouse"),
    "polo shirt": ("polo shirt", "polo"),
    "tank top": ("tank top", "tank", "vest top"),
    "sweater": ("sweater", "pullover", "jumper", "knit sweater"),
    "hoodie": ("hoodie", "hooded sweatshirt", "hooded top"),
    "jacket": ("jacket", "zip-up jacket"),
    "coat": ("coat", "overcoat", "long coat"),
    "dress": ("dress", "dress", "one-piece dress"),
    "cardigan": ("cardigan", "knit cardigan"),
    "blazer": ("blazer", "suit jacket", "sport coat"),
    "trousers": ("trousers", "pants", "slacks", "long pants"),
    "jeans": ("jeans", "denim jeans", "denim pants"),
    "shorts": ("shorts", "shorts", "short pants"),
    "skirt": ("skirt",),
    "sneakers": ("sneakers", "trainers", "running shoes", "sports shoes", "tennis shoes"),
    "leather shoes": ("leather shoes", "dress shoes", "formal shoes"),
    "boots": ("boots", "ankle boots"),
    "sandals": ("sandals", "open sandals"),
    "high heels": ("high heels", "heels", "high-heeled shoes"),
    "backpack": ("backpack", "rucksack", "back pack", "knapsack"),
    "shoulder bag": ("shoulder bag", "crossbody bag", "messenger bag", "satchel"),
    "handbag": ("handbag", "purse", "hand bag"),
    "cap": ("cap", "baseball cap"),
    "beanie": ("beanie", "knit cap", "knitted hat"),
    "sun hat": ("sun hat", "wide-brimmed hat", "brimmed hat"),
    "glasses": ("glasses", "eyeglasses", "spectacles"),
    "sunglasses": ("sunglasses", "dark glasses", "shades"),
    "phone": ("phone", "cell phone", "mobile phone", "smartphone"),
    "umbrella": ("umbrella", "open umbrella"),
    "bottle": ("bottle", "water bottle", "drink bottle"),
    "book": ("book",),
    "shopping bag": ("shopping bag", "plastic bag", "carrier bag"),
    "cup": ("cup", "coffee cup", "paper cup"),
}
_GENERIC = {"dress": "outfit", "coat": "upper garment", "jacket": "upper garment"}
_SLEEVES = {
    "long": ("long-sleeved", "long sleeve", "long sleeved"),
    "short": ("short-sleeved", "short sleeve", "short sleeved"),
    "sleeveless": ("sleeveless",),
}
_LENGTHS = {
    "short": ("short",),
    "knee-length": ("knee-length", "knee length", "mid-length"),
    "long": ("long", "ankle-length"),
}


class Wording:
    """Words for one caption about one person.

    Args:
        person: The person that the caption describes.
        mentioned: Attributes that it may name.
        rng: Source of the choices between synonyms.
    """

    def __init__(self, person: Person, mentioned: Set[str], rng: np.random.Generator) -> None:
        self.person = person
        self.mentioned = mentioned
        self._rng = rng

    def one_of(self, options: Sequence[str]) -> str:
        """Return one of `options`, each equally likely."""
        return options[int(self._rng.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return bool(self._rng.random() < probability)

    def kind(self, attribute: str, generic: str) -> str:
        """Return a word for the type named by `attribute`, or `generic` if it goes unmentioned."""
        if attribute not in self.mentioned:
            return generic
        return self.one_of(_KINDS[getattr(self.person, attribute)])

    def color(self, attribute: str, table: dict[str, Color] = COLORS) -> str:
        """Return a word for a colour, or nothing if it goes unmentioned."""
        if attribute not in self.mentioned:
            return ""
        color = table[getattr(self.person, attribute)]
        if self.chance(_VAGUE_SHARE):
            return self.one_of(color.vague)
        return color.words[0] if self.chance(0.55) else self.one_of(color.words)

    def top(self) -> str:
        """Return the upper garment, e.g. "a long-sleeved red and white striped shirt"."""
        if not self.mentioned & {"top_type", "top_color", "top_pattern", "top_sleeves"}:
            return ""
        person = self.person
        generic = _GENERIC.get(person.top_type, self.one_of(("top", "top", "upper garment")))
        kind = self.kind("top_type", generic)
        sleeves = ""
        if "top_sleeves" in self.mentioned:
            sleeves = self.one_of(_SLEEVES[person.top_sleeves])
        length = ""
        if person.top_type == "dress" and "lower_length" in self.mentioned:
            length = self.one_of(_LENGTHS[person.lower_length])
        before, after = self._pattern(self.color("top_color"))
        return article(joined(length, sleeves, before, kind, after))

    def _pattern(self, first: str) -> tuple[str, str]:
        if "top_pattern" not in self.mentioned:
            return first, ""
        second = self.color("top_color2")
        both = joined(first, "and" if first and second else "", second)
        match self.person.top_pattern:
            case "striped":
                if second and self.chance(0.5):
                    return first, f"with {second} stripes"
                return joined(both, self.one_of(("striped", "horizontally striped"))), ""
            case "checked":
                return joined(both, self.one_of(("checked", "plaid", "checkered"))), ""
            case "print":
                mark = self.one_of(("print", "logo", "graphic", "picture", "design"))
                where = self.one_of(("on the chest", "on the front", "across the chest"))
                return first, f"with {article(joined(second, mark))} {where}"
            case "two-tone":
                if second and first and self.chance(0.5):
                    return first, f"with a {second} lower half"
                return joined(self.one_of(("two-tone", "color-block")), both), ""
            case _:
                return joined(self.one_of(("plain", "solid")), first), ""

    def outer(self) -> str:
        """Return the open garment over the top, e.g. "a black jacket"."""
        if "outer_type" not in self.mentioned:
            return ""
        return article(joined(self.color("outer_color"), self.kind("outer_type", "")))

    def lower(self) -> str:
        """Return what the legs wear, e.g. "blue jeans"; a dress belongs to the top."""
        if not self.mentioned & {"lower_type", "lower_color"}:
            return ""
        trousers = self.person.lower_type in ("trousers", "jeans")
        generic = self.one_of(("pants", "bottoms")) if trousers else "bottoms"
        length = ""
        if "lower_length" in self.mentioned and not trousers:
            length = self.one_of(_LENGTHS[self.person.lower_length])
        kind = self.kind("lower_type", generic)
        if kind.startswith("short ") and length:
            kind = "shorts"
        phrase = joined(length, self.color("lower_color"), kind)
        if kind == "skirt":
            return article(phrase)
        return joined("a pair of", phrase) if self.chance(0.08) else phrase

    def shoes(self) -> str:
        """Return the shoes, e.g. "white sneakers"."""
        if not self.mentioned & {"shoes_type", "shoes_color"}:
            return ""
        generic = "footwear" if self.person.shoes_type == "sandals" else "shoes"
        return joined(self.color("shoes_color"), self.kind("shoes_type", generic))

    def hat(self) -> str:
        """Return the headgear, e.g. "a red baseball cap"."""
        if not self.mentioned & {"hat_type", "hat_color"}:
            return ""
        return article(joined(self.color("hat_color"), self.kind("hat_type", "hat")))

    def glasses(self) -> str:
        """Return the glasses."""
        if "glasses" not in self.mentioned:
            return ""
        pair = "a pair of" if self.chance(0.1) else ""
        return joined(pair, self.kind("glasses", ""))

    def hair(self) -> str:
        """Return the hair, e.g. "long brown hair tied in a ponytail"."""
        named = self.mentioned & {"hair_length", "hair_color", "hair_style"}
        if not named:
            return ""
        if self.person.hair_length == "bald":
            return self.one_of(("a bald head", "a shaved head", "no hair on top"))
        length = ""
        if "hair_length" in named:
            medium = ("medium-length", "shoulder-length", "chin-length")
            length = {"medium": self.one_of(medium)}.get(
                self.person.hair_length, self.person.hair_length
            )
        base = joined(length, self.color("hair_color", HAIR_COLORS), "hair")
        if "hair_style" not in named:
            return base
        style = self.person.hair_style
        if style == "loose":
            return joined(base, self.one_of(("worn loose", "down", "loose")))
        tied = self.one_of(("in", "in", "tied in", "pulled into"))
        return joined(base, tied, "a", style)

    def bag(self, *, straps_only: bool) -> str:
        """Return the bag, e.g. "a black backpack", or its straps if they are all one sees."""
        if not self.mentioned & {"bag_type", "bag_color"}:
            return ""
        phrase = article(joined(self.color("bag_color"), self.kind("bag_type", "bag")))
        if not straps_only:
            return phrase
        straps = "straps" if self.person.bag_type == "backpack" else "strap"
        return f"the {straps} of {phrase}"

    def held(self) -> str:
        """Return the thing in a hand, e.g. "a white cup"."""
        if "held_type" not in self.mentioned:
            return ""
        return article(joined(self.color("held_color"), self.kind("held_type", "")))

    def subject(self) -> tuple[str, str]:
        """Return adjectives and noun of the person, e.g. ("slim", "man")."""
        adjectives = []
        if "height" in self.mentioned and self.person.height != "average":
            adjectives.append(self.person.height)
        if "build" in self.mentioned and self.person.build != "average":
            builds = {"slim": ("slim", "slender", "thin"), "heavy": ("heavyset", "stocky", "plump")}
            adjectives.append(self.one_of(builds[self.person.build]))
        nouns = {
            "man": ("man", "man", "man", "guy", "male", "gentleman", "male pedestrian"),
            "woman": ("woman", "woman", "woman", "lady", "female", "female pedestrian"),
        }
        if "sex" in self.mentioned:
            return joined(*adjectives), self.one_of(nouns[self.person.sex])
        return joined(*adjectives), self.one_of(("person", "pedestrian", "person", "figure"))


def joined(*words: str) -> str:
    """Return the non-empty words with spaces between."""
    return " ".join(word for word in words if word)


def article(phrase: str) -> str:
    """Return a singular noun phrase with "a" or "an" before it."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def listed(items: Sequence[str]) -> str:
    """Return items as "a", "a and b" or "a, b and c"."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"
