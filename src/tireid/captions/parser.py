"""Read a caption word by word: adjectives wait for their noun, a verb or a full stop ends it."""

import re
from collections.abc import Iterator

from tireid.captions.attributes import Description, Thing
from tireid.captions.vocabulary import GENERIC, LEXICON, Meaning, respelled

_WORDS = re.compile(r"[a-z0-9]+|[.,;:!?/&]")
_JOINED = str.maketrans({"'": "", "\u2019": "", "-": " ", "_": " "})
_MARKS = {
    **dict.fromkeys(".;:!?", Meaning("stop", "", "")),
    ",": Meaning("comma", "", ""),
    "/": Meaning("and", "", ""),
    "&": Meaning("and", "", ""),
}
_HAIR = {
    "color": "hair_color",
    "hair_color": "hair_color",
    "length": "hair_length",
    "style": "hair_style",
}
_SLEEVED = ("upper", "outfit")
_Adjectives = list[tuple[str, str]]


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
    words = _WORDS.findall(caption.lower().replace("'s", "").translate(_JOINED))
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


class _Reader:
    """What has been read so far of one caption.

    Attributes:
        found: What it says so far.
        waiting: Adjectives whose noun has not come.
        last: The thing that was named last, or `hair`, `person`; adjectives after "is" are its.
        said: Whether "is" or "in" follows the last thing.
        denied: Whether the next thing is said not to be there.
        first_denied: Position of the first thing that the last "no" denies; -1 where none does.
        before: Role of the word before.
        pronoun: Sex by "he" or "she", for captions without a noun that tells it.
        owner: Sex by "his" or "her", which tells least.
    """

    def __init__(self) -> None:
        self.found = Description()
        self.waiting: _Adjectives = []
        self.last: Thing | str = ""
        self.said = False
        self.denied = False
        self.first_denied = -1
        self.before = ""
        self.pronoun = ""
        self.owner = ""

    def read(self, word: str, meaning: Meaning) -> None:
        """Take the next word that means something."""
        role = meaning.role
        if role in ("adjective", "detail"):
            self._adjective(meaning)
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

    def finish(self) -> Description:
        """Return what has been read, adjectives that still wait given to the last thing."""
        self._settle()
        sex = self.pronoun or self.owner
        if sex:
            self.found.traits.setdefault("sex", sex)
        return self.found

    def _sign(self, role: str, word: str, name: str) -> None:
        if role == "stop":
            self._settle()
            self.said = self.denied = False
            self.first_denied = -1
        elif role in ("comma", "and"):
            if self.before == "detail" or (self.said and self.last != "person"):
                self._settle()
            self.denied = False
            if role == "and":
                self.first_denied = -1
        elif role == "or":
            self._or()
        elif role == "with":
            self._settle()
            self.said = False
            if self.first_denied >= 0 and self.before == "thing":
                self.denied, self.first_denied = False, -1
        elif role == "copula":
            self.said = True
        elif role == "in":
            self.said = self.said or self.before == "thing"
        elif role == "not":
            if word not in ("no", "without"):
                self._settle()
            self.denied, self.first_denied = True, len(self.found.things)
        elif role == "seen":
            self._seen()
        elif role == "owner":
            self.owner = self.owner or name

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

    def _adjective(self, meaning: Meaning) -> None:
        name, value = meaning.name, meaning.value
        last = self.last
        follows = self.before in ("with", "thing") and not self.waiting
        if name == "sleeves" and follows and isinstance(last, Thing) and last.slot in _SLEEVED:
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
        if sleeves and meaning.name not in _SLEEVED:
            self._sleeves(sleeves[0][1])
        thing = self._new(word, meaning)
        self._give(thing, self.waiting)
        self.waiting = []
        self.said = False
        self.last = thing

    def _new(self, word: str, meaning: Meaning) -> Thing:
        """Return the thing that a noun names: a new one, or the last in "her top is a blouse"."""
        last = self.last
        if (
            self.before != "and"
            and self.said
            and isinstance(last, Thing)
            and last.slot == meaning.name
            and last.kind in GENERIC
        ):
            last.kind, last.word = meaning.value, word
            return last
        thing = Thing(meaning.name, meaning.value, word, absent=self.denied)
        self.found.things.append(thing)
        return thing

    def _sleeves(self, value: str) -> None:
        for thing in reversed(self.found.things):
            if thing.slot in _SLEEVED and not thing.absent:
                thing.sleeves = thing.sleeves or value
                return

    def _part(self, word: str, role: str) -> None:
        """Read a part of a thing or of the body, which takes the adjectives before it."""
        last = self.last
        if word.startswith("sleeve"):
            lengths = [value for name, value in self.waiting if name == "length"]
            if self.denied:
                self._sleeves("sleeveless")
                self.denied, self.first_denied = False, -1
            elif lengths and lengths[0] in ("short", "long"):
                self._sleeves(lengths[0])
        elif isinstance(last, Thing) and last.slot == "bag" and last.kind == "bag":
            last.kind = {"back": "backpack", "shoulder": "shoulder bag"}.get(word, last.kind)
        self.waiting = []
        self.denied = False

    def _hair(self, meaning: Meaning) -> None:
        if self.denied and not meaning.name:
            self.found.traits["hair_length"] = "bald"
        elif meaning.name:
            self.found.traits[f"hair_{meaning.name}"] = meaning.value  # "tied in a bun": the bun
        self._give("hair", self.waiting)
        self.waiting = []
        self.said = self.denied = False
        self.last = "hair"

    def _haired(self) -> None:
        """Read the end of "a slim black haired man": the adjectives next to it are of the hair."""
        start = len(self.waiting)
        while start and self.waiting[start - 1][0] in _HAIR:
            start -= 1
        self._give("hair", self.waiting[start:])
        self.waiting = self.waiting[:start]

    def _person(self, meaning: Meaning) -> None:
        sex, age = meaning.name, meaning.value
        if sex.endswith("?"):
            self.pronoun = self.pronoun or sex.removesuffix("?")
        elif sex:
            self.found.traits.setdefault("sex", sex)
        self._give("person", self.waiting)
        if age:
            self.found.traits.setdefault("age", age)
        self.waiting = []
        self.said = False
        self.last = "person"

    def _settle(self) -> None:
        """Give the adjectives that wait to the last thing."""
        if self.waiting and self.last:
            self._give(self.last, self.waiting)
        self.waiting = []

    def _give(self, target: Thing | str, adjectives: _Adjectives) -> None:
        if isinstance(target, Thing):
            self._give_thing(target, adjectives)
        elif target == "hair":
            self._give_hair(adjectives)
        else:
            self._give_person(adjectives)

    def _give_thing(self, thing: Thing, adjectives: _Adjectives) -> None:
        for name, value in adjectives:
            if name in ("color", "hair_color"):
                if value not in thing.colors:
                    thing.colors.append(value)
            elif name == "pattern":
                thing.pattern = thing.pattern or value
            elif name == "length" and thing.slot in ("upper", "lower"):
                value = "knee-length" if value == "medium" else value
                thing.length = thing.length or value
            elif name == "sleeves" and thing.slot in _SLEEVED:
                thing.sleeves = thing.sleeves or value

    def _give_hair(self, adjectives: _Adjectives) -> None:
        for name, value in adjectives:
            if name == "color":
                value = {"gold": "blonde", "silver": "grey"}.get(value, value)
            key = _HAIR.get(name)
            if key:
                self.found.traits.setdefault(key, value)

    def _give_person(self, adjectives: _Adjectives) -> None:
        traits = self.found.traits
        for name, value in adjectives:
            if name in ("build", "height", "age", "hair_color"):
                traits.setdefault(name, value)
            elif name == "length" and value == "short":
                traits.setdefault("height", value)
