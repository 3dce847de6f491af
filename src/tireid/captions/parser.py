"""Read a caption word by word: adjectives wait for their noun, a verb or a full stop ends it."""

import re
from collections.abc import Iterator

from tireid.captions.adjectives import (
    HAIR,
    SLEEVED,
    Adjectives,
    give_hair,
    give_person,
    give_thing,
)
from tireid.captions.attributes import Description, Thing
from tireid.captions.vocabulary import GENERIC, LEXICON, Meaning, respelled

_WORDS = re.compile(r"[a-z0-9]+|[.,;:!?/&]")
_JOINED = str.maketrans({"'": "", "-": " ", "_": " "})
_MARKS = {
    **dict.fromkeys(".;:!?", Meaning("stop", "", "")),
    ",": Meaning("comma", "", ""),
    "/": Meaning("and", "", ""),
    "&": Meaning("and", "", ""),
}
_UNKNOWN = Meaning("unknown", "", "")
_NO_NOUN = ("ed", "ing", "ish", "ly")  # endings of words that are probably none
_DESCRIBED = ("adjective", "detail", "thing", "part", "body", "hair", "haired", "person")


def parse(caption: str) -> Description:
    """Return what an English caption says of a person.

    Args:
        caption: One or more sentences about one person; other words are passed over.

    Returns:
        Its traits and things; what the caption does not say is empty.
    """
    reader = _Reader()
    for word, meaning in _meanings(caption):
        reader.read(word, meaning)
    return reader.finish()


def _meanings(caption: str) -> Iterator[tuple[str, Meaning]]:
    """Yield the words and phrases that mean something, each the longest that fits."""
    text = caption.lower().replace("\u2019", "'").replace("n't", " not").replace("'s", "")
    text = text.replace("colour", "color").translate(_JOINED)
    words = _WORDS.findall(text)
    position, count = 0, len(words)
    while position < count:
        word = words[position]
        position += 1
        entries = LEXICON.get(word)
        if entries is None:
            if word in _MARKS:
                yield word, _MARKS[word]
                continue
            entries = LEXICON.get(respelled(word), ())
        for rest, meaning in entries:
            if not rest:
                yield word, meaning
                break
            end = position + len(rest)
            if tuple(words[position:end]) == rest:
                yield " ".join((word, *rest)), meaning
                position = end
                break
        else:
            yield word, _UNKNOWN


class _Reader:
    """What has been read so far of one caption.

    Attributes:
        found: What it says so far.
        waiting: Adjectives whose noun has not come.
        last: The thing that was named last, or `hair`, `person`, `sleeves` or another `part`;
            adjectives after "is" are its.
        said: Whether "is" or "in" follows the last thing.
        denied: Whether the next thing is said not to be there.
        first_denied: Position of the first thing that the last "no" denies; -1 where none does.
        before: Role of the word before.
        sign: Role of the last word between things, empty after a thing.
        part: The last part of a thing or of the body.
        of_part: The adjectives before it.
        relative: Whether a clause such as "that she carries" has begun, whose person is not what
            the sentence goes on about.
        begun: Whether an article stands before the next word.
        other: Whether the word before is a noun of which nothing is known.
        pronoun: Sex by "he" or "she", for captions without a noun that tells it.
        owner: Sex by "his" or "her", which tells least.
    """

    def __init__(self) -> None:
        self.found = Description()
        self.waiting: Adjectives = []
        self.last: Thing | str = ""
        self.said = False
        self.denied = False
        self.first_denied = -1
        self.before = self.sign = self.part = ""
        self.of_part: Adjectives = []
        self.relative = self.begun = self.other = False
        self.pronoun = ""
        self.owner = ""

    def read(self, word: str, meaning: Meaning) -> None:
        """Take the next word that means something."""
        role = meaning.role
        if role in ("unknown", "article", "function"):
            self._between(word, role)
            return
        if role not in _DESCRIBED:
            self._end_other()
        self.other = False
        if role in ("adjective", "detail"):
            self._adjective(word, meaning)
        elif role == "thing":
            self._thing(word, meaning)
        elif role in ("part", "body"):
            self._part(word, role)
        elif role == "hair":
            self._hair(meaning)
        elif role == "haired":
            self._haired()
        elif role == "person":
            self._person(meaning)
        else:
            self._sign(role, word, meaning.name)
        if role != "nothing" or self.before != "detail":  # "with a print tucked in, ..."
            self.before = role
        self.begun = False

    def finish(self) -> Description:
        """Return what has been read, adjectives that still wait given to the last thing."""
        self._end_other()
        self._settle()
        sex = self.pronoun or self.owner
        if sex:
            self.found.traits.setdefault("sex", sex)
        return self.found

    def _between(self, word: str, role: str) -> None:
        """Read a word that says nothing, but may tell which noun an adjective is not of."""
        if role == "article":
            self._begin()
        elif role == "unknown":
            is_next = self.before == "adjective" and not self.begun
            self.other = is_next and not word.endswith(_NO_NOUN)
        self.begun = self.begun or role == "article"

    def _end_other(self) -> None:
        """End an unknown noun, whose adjectives are nobody's: "a brown wallet, ..."."""
        if self.other and not self.said:
            self.waiting = []

    def _begin(self) -> None:
        """Begin another noun; colours before it are not of it."""
        if not self.last:  # "black is the shirt"
            return
        if self.said or any(name == "pattern" for name, _ in self.waiting):
            self._settle()
        for name, value in self.waiting:
            if name == "sleeves":
                self._sleeves(value)
        self.waiting = [pair for pair in self.waiting if pair[0] in ("build", "height", "age")]

    def _sign(self, role: str, word: str, name: str) -> None:
        if role == "stop":
            self._settle()
            self.said = self.denied = self.relative = False
            self.first_denied = -1
        elif role in ("comma", "and"):
            if self.before == "detail" or (self.said and self.last != "person"):
                self._settle()
            self.denied = False
            if role == "and":
                self.first_denied = -1
        elif role == "or":
            self._or()
        elif role == "with" or (role == "but" and not (self.denied and self.said)):
            self._with()
        elif role == "but":
            self.denied, self.first_denied = False, -1
        elif role in ("copula", "relative"):
            self._copula(role)
        elif role == "by":
            self.relative = True
        elif role == "in":
            self._in()
        elif role == "not":
            self._not(word)
        elif role == "seen":
            self._seen()
        elif role == "near":
            self._settle()
        elif role == "pronoun":
            if isinstance(self.last, str) and self.last != "hair" and self.found.things:
                self.last = self.found.things[-1]
            self._settle()
        elif role == "owner":
            self._begin()
            self.owner = self.owner or name
        self.sign = role

    def _with(self) -> None:
        self._settle()
        self.said = self.relative = False
        if self.first_denied >= 0 and self.before == "thing":
            self.denied, self.first_denied = False, -1

    def _copula(self, role: str) -> None:
        """Read "is", which may tell of a part ("the collar is"), or "that"."""
        if self.before == "thing":  # "without a coat is"
            self.denied, self.first_denied = False, -1
        if role == "copula" and self.before in ("part", "body") and self.sign != "with":
            self.last = "sleeves" if self.part.startswith("sleeve") else "part"
        self.said, self.relative = True, role == "relative"

    def _in(self) -> None:
        self.said = self.said or self.before == "thing"
        if not self.last:  # "a blonde in"
            self._give("person", self.waiting)
            self.waiting = []

    def _not(self, word: str) -> None:
        if word not in ("no", "without"):
            self._settle()
            if self.before in ("part", "body"):  # "with his face not visible"
                self.last = "part"
        self.denied, self.first_denied = True, len(self.found.things)

    def _or(self) -> None:
        """Read "or": after a "no", it denies on, and all that was listed between."""
        if self.first_denied < 0:
            return
        self.denied = True
        for thing in self.found.things[self.first_denied :]:
            thing.absent = True

    def _seen(self) -> None:
        """Read "visible": what is not visible is not named, but "no hat is visible" denies it."""
        last = self.last
        if self.denied and isinstance(last, Thing) and not last.absent:
            self.found.things = [thing for thing in self.found.things if thing is not last]
        self.denied, self.first_denied = False, -1

    def _adjective(self, word: str, meaning: Meaning) -> None:
        name, value = meaning.name, meaning.value
        last = self.last
        if self.denied and self.said and meaning.role == "adjective":
            return  # "is not black but grey"
        if "to" in word.split() and last:  # "to her knees"
            self._give(last, [(name, value)])
            return
        follows = self.before in ("with", "thing") and not self.waiting
        if name == "sleeves" and follows and isinstance(last, Thing) and last.slot in SLEEVED:
            last.sleeves = last.sleeves or value
            return
        if name == "style" and self.before == "hair":
            self._give("hair", [(name, value)])
            return
        if name == "age" and self.before == "owner":  # "in his twenties"
            self._give("person", [(name, value)])
            return
        self.waiting.append((name, value))

    def _thing(self, word: str, meaning: Meaning) -> None:
        sleeves = [pair for pair in self.waiting if pair[0] == "sleeves"]
        if sleeves and meaning.name not in SLEEVED:
            self._sleeves(sleeves[0][1])
        thing = self._new(word, meaning)
        if self.before in ("part", "body") and not self.begun:  # "black knee boots"
            self._give(thing, self.of_part)
        self._give(thing, self.waiting)
        self.waiting = []
        self.said = self.relative = False
        self.sign = ""
        self.last = thing

    def _new(self, word: str, meaning: Meaning) -> Thing:
        """Return the thing that a noun names: a new one, or the last in "her top is a blouse"."""
        last = self.last
        if isinstance(last, Thing) and last.slot == meaning.name:
            if self.before == "thing" and not self.begun and meaning.value in GENERIC:
                last.word = f"{last.word} {word}"  # "a satchel bag"
                return last
            if self.before != "and" and self.said and last.kind in GENERIC:
                last.kind, last.word = meaning.value, word
                return last
        thing = Thing(meaning.name, meaning.value, word, absent=self.denied)
        self.found.things.append(thing)
        return thing

    def _sleeves(self, value: str) -> None:
        for thing in reversed(self.found.things):
            if thing.slot in SLEEVED and not thing.absent:
                thing.sleeves = thing.sleeves or value
                return

    def _part(self, word: str, role: str) -> None:
        """Read a part of a thing or of the body, which takes the adjectives before it."""
        last, self.part, self.of_part = self.last, word, self.waiting
        if word.startswith("sleeve"):
            lengths = [value for name, value in self.waiting if name == "length"]
            if self.denied:
                self._sleeves("sleeveless")
                self.denied, self.first_denied = False, -1
            elif lengths and lengths[0] in ("short", "long"):
                self._sleeves(lengths[0])
        elif isinstance(last, Thing) and last.kind == "bag" and not last.absent:
            last.kind = {"back": "backpack", "shoulder": "shoulder bag"}.get(word, last.kind)
        self.waiting = []
        self.denied = False

    def _hair(self, meaning: Meaning) -> None:
        if self.denied and not meaning.name:
            self.found.traits["hair_length"] = "bald"
        elif meaning.name and not self.denied:
            self.found.traits[f"hair_{meaning.name}"] = meaning.value  # "tied in a bun": the bun
        self._give("hair", self.waiting)
        self.waiting = []
        self.said = self.denied = False
        self.last = "hair"

    def _haired(self) -> None:
        """Read the end of "a slim black haired man": the adjectives next to it are of the hair."""
        start = len(self.waiting)
        while start and self.waiting[start - 1][0] in HAIR:
            start -= 1
        self._give("hair", self.waiting[start:])
        self.waiting = self.waiting[:start]

    def _person(self, meaning: Meaning) -> None:
        sex, age = meaning.name, meaning.value
        if self.sign == "with" and "sex" in self.found.traits:  # "holding a child"
            self.waiting = []
            return
        if sex.endswith("?"):
            self.pronoun = self.pronoun or sex.removesuffix("?")
        elif sex:
            self.found.traits.setdefault("sex", sex)
        self._give("person", self.waiting)
        if age:
            self.found.traits.setdefault("age", age)
        self.waiting = []
        if not (self.relative and isinstance(self.last, Thing)):
            self.said = False
            self.last = "person"

    def _settle(self) -> None:
        """Give the adjectives that wait to the last thing."""
        if self.waiting and self.last:
            self._give(self.last, self.waiting)
        self.waiting = []

    def _give(self, target: Thing | str, adjectives: Adjectives) -> None:
        if isinstance(target, Thing):
            give_thing(target, adjectives)
        elif target == "hair":
            give_hair(self.found.traits, adjectives)
        elif target == "sleeves":
            lengths = [value for name, value in adjectives if name == "length"]
            if lengths and lengths[0] in ("short", "long"):
                self._sleeves(lengths[0])
        elif target == "person":
            give_person(self.found.traits, adjectives)
