"""Noun phrases of the captions: a person's attributes in varied English."""

from collections.abc import Mapping, Sequence, Set

import numpy as np

from tireid.world.attributes import Person
from tireid.world.palette import COLORS, HAIR_COLORS, Color
from tireid.world.synonyms import (
    GENERIC,
    KINDS,
    LENGTHS,
    MORE_KINDS,
    MORE_LENGTHS,
    MORE_SLEEVES,
    SLEEVES,
)

_VAGUE_SHARE = 0.12
_RARE_SHARE = 0.08  # of the words that version 2 adds to the common ones
_HANDS = {"left": "right", "right": "left"}


class Wording:
    """Words for one caption about one person.

    Args:
        person: The person that the caption describes.
        mentioned: Attributes that it may name.
        rng: Source of the choices between synonyms.
        version: Version of the world; 2 has more words.
    """

    def __init__(
        self, person: Person, mentioned: Set[str], rng: np.random.Generator, version: int = 1
    ) -> None:
        self.person = person
        self.mentioned = mentioned
        self._rng = rng
        self._version = version
        hair = self.mentioned & {"hair_length", "hair_color", "hair_style"}
        # "A black-haired man", not "a man with black hair".
        told = hair == {"hair_color"} and not (
            "height" in self.mentioned and person.height == "short"
        )
        self.hair_first = told and self.adds(0.3)

    def one_of(self, options: Sequence[str], more: Sequence[str] = ()) -> str:
        """Return one of `options`, each equally likely; from version 2 on sometimes of `more`."""
        if self.adds(_RARE_SHARE if more else 0.0):
            options = more
        return options[int(self._rng.integers(len(options)))]

    def adds(self, probability: float) -> bool:
        """Return True with this probability from version 2 on, which draws it."""
        return self._version > 1 and probability > 0 and self.chance(probability)

    @property
    def his(self) -> str:
        """The possessive pronoun."""
        if "sex" not in self.mentioned:
            return "their"
        return "his" if self.person.sex == "man" else "her"

    def word(
        self, words: Mapping[str, Sequence[str]], more: Mapping[str, Sequence[str]], key: str
    ) -> str:
        """Return a word for `key`, from version 2 on sometimes one of `more`."""
        return self.one_of(words[key], more.get(key, ()))

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return bool(self._rng.random() < probability)

    def kind(self, attribute: str, generic: str) -> str:
        """Return a word for the type named by `attribute`, or `generic` if it goes unmentioned."""
        if attribute not in self.mentioned:
            return generic
        return self.word(KINDS, MORE_KINDS, getattr(self.person, attribute))

    def color(self, attribute: str, table: dict[str, Color] = COLORS) -> str:
        """Return a word for a colour, or nothing if it goes unmentioned."""
        if attribute not in self.mentioned:
            return ""
        color = table[getattr(self.person, attribute)]
        if self.chance(_VAGUE_SHARE):
            return self.one_of(color.vague)
        plain = self.chance(0.55)
        word = color.words[0] if plain else self.one_of(color.words, color.more)
        if plain or not self.adds(0.02):
            return word
        return f"{word} colored" if word == color.words[0] else f"{color.words[0]} or {word}"

    def top(self) -> str:
        """Return the upper garment, e.g. "a long-sleeved red and white striped shirt"."""
        if not self.mentioned & {"top_type", "top_color", "top_pattern", "top_sleeves"}:
            return ""
        person = self.person
        generic = GENERIC.get(person.top_type, self.one_of(("top", "top", "upper garment")))
        kind = self.kind("top_type", generic)
        sleeves = ""
        if "top_sleeves" in self.mentioned:
            sleeves = self.one_of(SLEEVES[person.top_sleeves])
        length = reach = ""
        if person.top_type == "dress" and "lower_length" in self.mentioned:
            length, reach = self._length()
        before, after = self._pattern(self.color("top_color"))
        parts = [after.removeprefix("with ")] if after else []
        if sleeves and self.adds(_RARE_SHARE):
            parts.append(self.one_of(MORE_SLEEVES[person.top_sleeves]))
            sleeves = ""
        if person.top_type == "hoodie" and "top_type" in self.mentioned and self.adds(0.04):
            parts.append("a hood")
        parts += [part for name in ("collar", "buttons") if (part := self._trim(name))]
        end = joined("with" if parts else "", listed(parts), self._tucked(), reach)
        return article(joined(length, sleeves, before, kind, end))

    def _length(self) -> tuple[str, str]:
        """Return the length of a skirt or shorts: the word before the noun, or what follows it."""
        length = self.person.lower_length
        if length != "long" and self.adds(0.06):
            verb = self.one_of(("that ends", "that falls", "which ends", "that goes"))
            below = verb != "that goes" and length == "knee-length"
            place = "below the knee" if below else "to the knees"
            return "", joined(verb, "above the knee" if length == "short" else place)
        return self.word(LENGTHS, MORE_LENGTHS, length), ""

    def _trim(self, name: str) -> str:
        if name not in self.mentioned:
            return ""
        nouns = {
            "collar": ("collar", "collar"),
            "buttons": ("buttons", "buttons down the front", "buttons"),
        }
        phrase = joined(self.color(name), self.one_of(nouns[name]))
        return phrase if name == "buttons" else article(phrase)

    def _tucked(self) -> str:
        if "top_tucked" not in self.mentioned:
            return ""
        if self.person.top_tucked == "tucked":
            return self.one_of(("tucked in", "tucked in", "tucked in at the waist"))
        return self.one_of(("left untucked", "untucked", "untucked"))

    def _pattern(self, first: str) -> tuple[str, str]:
        if "top_pattern" not in self.mentioned:
            return first, ""
        second = self.color("top_color2")
        both = joined(first, "and" if first and second else "", second)
        match self.person.top_pattern:
            case "floral" | "dotted" if second and self.chance(0.3):
                marks = {"floral": ("flowers", "floral pattern"), "dotted": ("dots", "polka dots")}
                mark = self.one_of(marks[self.person.top_pattern])
                phrase = joined(second, mark)
                return first, f"with {article(phrase) if mark.endswith('n') else phrase}"
            case "floral":
                return joined(
                    both, self.one_of(("floral", "flowered"), ("floral print", "floral patterned"))
                ), ""
            case "dotted":
                return joined(both, self.one_of(("polka dotted", "dotted", "polka dot"))), ""
            case "writing":
                mark = self.one_of(("writing", "writing", "lettering", "letters", "words"))
                where = self.one_of(("on the front", "on it", "across the chest", "on the chest"))
                return first, f"with {joined(second, mark)} {where}"
            case "striped":
                if second and self.chance(0.5):
                    lines = self.one_of(("stripes",), ("horizontal stripes", "stripe pattern"))
                    return first, f"with {joined(second, lines)}"
                return joined(
                    both, self.one_of(("striped", "horizontally striped"), ("stripe", "stripped"))
                ), ""
            case "checked":
                return joined(
                    both, self.one_of(("checked", "plaid", "checkered"), ("flannel",))
                ), ""
            case "print":
                mark = self.one_of(
                    ("print", "logo", "graphic", "picture", "design"),
                    ("printed design", "emblem", "image"),
                )
                where = self.one_of(
                    ("on the chest", "on the front", "across the chest"),
                    ("on it", "visible on the front", "in the middle", "in the center"),
                )
                return first, f"with {article(joined(second, mark))} {where}"
            case "two-tone":
                if second and first and self.chance(0.5):
                    half = self.one_of(("lower half",), ("bottom half",))
                    return first, f"with a {second} {half}"
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
        length = reach = ""
        if "lower_length" in self.mentioned and not trousers:
            length, reach = self._length()
        kind = self.kind("lower_type", generic)
        if kind.startswith("short ") and length:
            kind = "shorts"
        fit = ""
        if "lower_fit" in self.mentioned:
            fits = {"tight": ("tight", "tight fitting", "fitted", "skinny"),
                    "loose": ("loose", "baggy", "loose fitting", "wide leg")}  # fmt: skip
            fit = self.one_of(fits[self.person.lower_fit])
        phrase = joined(length, fit, self.color("lower_color"), kind, reach)
        if self.person.lower_type == "skirt" and kind not in ("bottoms", "pants"):
            return article(phrase)
        return self._pair(phrase, 0.08)

    def _pair(self, phrase: str, share: float) -> str:
        """Return "a pair of" some things; from version 2 on more often than with `share`."""
        return joined("a pair of", phrase) if self.chance(share) or self.adds(0.02) else phrase

    def shoes(self) -> str:
        """Return the shoes, e.g. "white sneakers"."""
        if not self.mentioned & {"shoes_type", "shoes_color"}:
            return ""
        open_toed = self.person.shoes_type in ("sandals", "flip flops")
        generic = "footwear" if open_toed else "shoes"
        color, kind = self.color("shoes_color"), self.kind("shoes_type", generic)
        person = self.person
        both = {"shoes_color", "top_color"} <= self.mentioned
        same = both and person.shoes_color == person.top_color
        phrase = joined("matching" if same and self.adds(0.12) else "", color, kind)
        if self.adds(0.025):
            return joined("a pair of", phrase)
        ends = (f"on {self.his} feet", "with flat soles", "on both feet")
        return joined(phrase, self.one_of(ends)) if self.adds(0.02) else phrase

    def hat(self) -> str:
        """Return the headgear, e.g. "a red baseball cap"."""
        if not self.mentioned & {"hat_type", "hat_color"}:
            return ""
        phrase = article(joined(self.color("hat_color"), self.kind("hat_type", "hat")))
        return joined(phrase, "on", self.his, "head") if self.adds(0.04) else phrase

    def accessories(self) -> list[str]:
        """Return belt, socks, scarf, tie and watch, e.g. "a brown belt around his waist"."""
        nouns = {
            "belt": (("belt", "belt"), "around {} waist"),
            "socks": (("socks", "socks", "ankle socks"), ""),
            "scarf": (("scarf", "scarf"), "around {} neck"),
            "tie": (("tie", "tie", "necktie"), ""),
            "watch": (("watch", "watch", "wrist watch", "wristwatch"), "on {} left wrist"),
        }
        phrases = []
        for name, (words, where) in nouns.items():
            if name in self.mentioned:
                phrase = joined(self.color(name), self.one_of(words))
                phrase = phrase if name == "socks" else article(phrase)
                place = where.format(self.his) if where and self.chance(0.1) else ""
                phrases.append(joined(phrase, place))
        return phrases

    def glasses(self) -> str:
        """Return the glasses."""
        if "glasses" not in self.mentioned:
            return ""
        pair = "a pair of" if self.chance(0.1) else ""
        end = f"on {self.his} face" if self.adds(0.025) else ""
        return joined(pair, self.kind("glasses", ""), end)

    def hair(self) -> str:
        """Return the hair, e.g. "long brown hair tied in a ponytail"."""
        named = self.mentioned & {"hair_length", "hair_color", "hair_style"}
        if not named or self.hair_first:
            return ""
        if self.person.hair_length == "bald":
            return self.one_of(
                ("a bald head", "a shaved head", "no hair on top"), ("a balding head",)
            )
        length = ""
        if "hair_length" in named:
            medium = ("medium-length", "shoulder-length", "chin-length")
            length = {"medium": self.one_of(medium)}.get(
                self.person.hair_length, self.person.hair_length
            )
            if length in ("short", "long") and self.adds(0.025):
                length = f"very {length}"
        base = joined(length, self.color("hair_color", HAIR_COLORS), "hair")
        if "hair_style" not in named:
            return base
        style = self.person.hair_style
        if style in ("straight", "curly"):
            word = style if style == "straight" else self.one_of(("curly", "curly", "wavy"))
            falls = ("that hangs down", f"that falls on {self.his} shoulders", "which is down")
            end = self.one_of(falls) if self.adds(0.025) else ""
            return joined(length, word, base.removeprefix(length).strip(), end)
        if style == "loose":
            return joined(base, self.one_of(("worn loose", "down", "loose")))
        tied = self.one_of(("in", "in", "tied in", "pulled into"), ("pulled back in", "up in"))
        knots = {"ponytail": ("pony tail", "low ponytail", "ponytail style")}
        return joined(base, tied, "a", self.one_of((style,), knots.get(style, ())))

    def bag(self, *, straps_only: bool) -> str:
        """Return the bag, e.g. "a black backpack", or its straps if they are all one sees."""
        if not self.mentioned & {"bag_type", "bag_color"}:
            return ""
        size = ""
        if "bag_size" in self.mentioned:
            sizes = {"large": ("large", "large", "big"), "small": ("small", "small", "little")}
            size = self.one_of(sizes[self.person.bag_size])
        phrase = article(joined(size, self.color("bag_color"), self.kind("bag_type", "bag")))
        if not straps_only:
            return phrase
        straps = "straps" if self.person.bag_type == "backpack" else "strap"
        return f"the {straps} of {phrase}"

    def held(self) -> str:
        """Return the thing in a hand, e.g. "a white cup"."""
        if "held_type" not in self.mentioned:
            return ""
        phrase = article(joined(self.color("held_color"), self.kind("held_type", "")))
        guesses = ("what looks like", "something like", "what appears to be", "some type of",
                   "some kind of", "an object that looks like")  # fmt: skip
        guess = self.one_of(guesses) if self.adds(0.04) else ""
        return joined(guess, phrase.partition(" ")[2] if guess.endswith("of") else phrase)

    def bag_place(self) -> str:
        """Return where the bag is, e.g. "over his left shoulder", or nothing."""
        kind = self.person.bag_type
        if "bag_type" not in self.mentioned or not self.adds(0.06):
            return ""
        is_ = "which is" if self.chance(0.06) else ""
        return joined(is_, self._where(kind))

    def _where(self, kind: str) -> str:
        if kind == "backpack":
            return self.one_of(
                (f"on {self.his} back", f"on {self.his} shoulders", "with two straps"),
                (f"over {self.his} shoulders",),
            )
        side = self.person.bag_side
        if kind == "handbag":
            arm = (f"on {self.his} {side} arm", f"held in {self.his} {side} hand")
            return self.one_of((f"in {self.his} {side} hand", *arm))
        # The strap lies on the shoulder opposite the bag.
        shoulder = f"{self.his} {_HANDS[side]} shoulder"
        return self.one_of(
            (f"over {shoulder}", f"on {shoulder}", f"across {self.his} body"),
            (f"at {self.his} {side} hip", f"slung over {shoulder}", f"hanging from {shoulder}",
             "with a strap across the body", f"strapped over {shoulder}"),
        )  # fmt: skip

    def hand(self) -> str:
        """Return the hand that holds the thing, e.g. "in her right hand", or nothing."""
        if self.chance(0.15):
            return f"in {self.his} hand"
        side = _HANDS[self.person.bag_side]
        return f"in {self.his} {side} hand" if self.adds(0.05) else ""


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
