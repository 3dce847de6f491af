"""What each word or phrase of a caption means, also a mistyped one; plurals are added to nouns."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from tireid.captions.words import (
    ADJECTIVES,
    BODY,
    COLORS,
    CUTS,
    DETAILS,
    HAIR_COLORS,
    NOTHING,
    OTHERS,
    PARTS,
    SEXES,
    SHADES,
    SIGNS,
    STYLE_NOUNS,
    THINGS,
    VAGUE,
)


class Meaning(NamedTuple):
    """What a word or phrase means: its role in the sentence, an attribute or slot, a value."""

    role: str
    name: str
    value: str


def _rows() -> dict[str, Meaning]:
    """Return the meaning of each phrase; later tables take precedence."""
    found: dict[str, Meaning] = {}

    def add(words: str, meaning: Meaning, *, plural: bool = True) -> None:
        for phrase in filter(None, words.split(", ")):
            phrase = phrase.strip()
            found[phrase] = meaning
            if plural:
                found.setdefault(_plural(phrase), meaning)

    for name, values in ADJECTIVES.items():
        for value, words in values.items():
            add(
                f"{value.replace('-', ' ')}, {words}",
                Meaning("adjective", name, value),
                plural=False,
            )
    for value, (_, words) in CUTS.items():
        add(words, Meaning("adjective", "cut", value), plural=False)
    _add_colors(add)
    for value, words in DETAILS.items():
        add(words, Meaning("detail", "pattern", value))
    for value, words in STYLE_NOUNS.items():
        add(f"{value}, {words}", Meaning("hair", "style", value))
    add("haired", Meaning("haired", "", ""), plural=False)
    add("hair, hairs, hairstyle, haircut, hairdo", Meaning("hair", "", ""))
    add("bald, balding, shaved head, bald head, bald headed", Meaning("hair", "length", "bald"))
    for slot, kinds in THINGS.items():
        for kind, words in kinds.items():
            add(f"{kind.replace('-', ' ')}, {words}", Meaning("thing", slot, kind))
    add(PARTS, Meaning("part", "", ""))
    add(BODY, Meaning("body", "", ""))
    for sex, words in SEXES.items():
        add(f"{sex}, {words}", Meaning("person", sex, ""))
    for sex, pronouns, young in (
        ("man", ("he", "his, him"), "boy"),
        ("woman", ("she", "her, hers"), "girl"),
    ):
        add(pronouns[0], Meaning("person", f"{sex}?", ""), plural=False)
        add(pronouns[1], Meaning("owner", sex, ""), plural=False)
        add(young, Meaning("person", sex, "young"))
    add(OTHERS, Meaning("person", "", ""))
    add("child, kid, toddler, children", Meaning("person", "", "child"))
    add("little boy", Meaning("person", "man", "child"))
    add("little girl", Meaning("person", "woman", "child"))
    add("teenager, teen, youth", Meaning("person", "", "young"))
    for role, words in SIGNS.items():
        add(words, Meaning(role, "", ""), plural=False)
    add(NOTHING, Meaning("nothing", "", ""), plural=False)
    return found


def _add_colors(add: Callable[..., None]) -> None:
    for value, words in HAIR_COLORS.items():
        add(f"{value}, {words}", Meaning("adjective", "hair_color", value), plural=False)
    for color, words in COLORS.items():
        for word in filter(None, [color, *words.split(", ")]):
            meaning = Meaning("adjective", "color", color)
            add(word, meaning, plural=False)
            add(f"{word} colored", meaning, plural=False)
            for shade, shades in SHADES.items():
                shaded = color.removeprefix("dark ").removeprefix("light ")
                value = f"{shade} {shaded}".strip() if shade else color
                for name in shades.split(", "):
                    add(f"{name} {word}", Meaning("adjective", "color", value), plural=False)
    for color, words in VAGUE.items():
        add(f"{color}, {words}", Meaning("adjective", "color", color), plural=False)


def _plural(phrase: str) -> str:
    if phrase.endswith(("s", "x", "ch", "sh")):
        return phrase + "es"
    if phrase.endswith("y") and phrase[-2:-1] not in "aeou":
        return phrase[:-1] + "ies"
    return phrase + "s"


Entry = tuple[tuple[str, ...], Meaning]


def _lexicon() -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for phrase, meaning in _rows().items():
        first, *rest = phrase.split()
        found.setdefault(first, []).append((tuple(rest), meaning))
    for entries in found.values():
        entries.sort(key=lambda entry: -len(entry[0]))
    return found


LEXICON: dict[str, list[Entry]] = _lexicon()
"""By first word: the words after it and what they mean together, the longest first."""
PATTERNS = frozenset(ADJECTIVES["pattern"])
SLEEVES = frozenset(ADJECTIVES["sleeves"])
LENGTHS = frozenset(ADJECTIVES["length"])
WIDER = {value: frozenset(kinds.split(", ")) for value, (kinds, _) in CUTS.items()}
"""By kind: those that an adjective may narrow to it."""
GENERIC = frozenset({"top", "bottoms", "clothes", "shoes", "bag", "hat"})
"""The widest kind of each slot."""
COLOR_VALUES: frozenset[str] = frozenset(
    entry.value
    for entries in LEXICON.values()
    for _, entry in entries
    if entry.name in ("color", "hair_color")
)


def _outline(word: str) -> str:
    """Return what two spellings share that differ in doubled or swapped letters inside."""
    inside = sorted(word[1:-1])
    kept = (a for a, b in zip(inside, [*inside[1:], ""], strict=True) if a != b)
    return f"{word[0]}{''.join(kept)}{word[-1]}"


_SHORTEST = 5  # letters of a word whose spelling is guessed
_OUTLINES = {_outline(word): word for word in LEXICON if len(word) >= _SHORTEST}
_SHORTENED = {
    word[:position] + word[position + 1 :]: word
    for word in LEXICON
    if len(word) > _SHORTEST
    for position in range(1, len(word) - 1)
}
"""Words by what is left of them without one letter inside."""


@lru_cache(maxsize=2**14)
def respelled(word: str) -> str:
    """Return the word of the vocabulary that is probably meant by a mistyped one, else itself."""
    if len(word) < _SHORTEST:
        return word
    return _OUTLINES.get(_outline(word)) or _SHORTENED.get(word, word)
