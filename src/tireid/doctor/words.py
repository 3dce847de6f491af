"""What captions say: how many name each attribute, and how many words a vocabulary lacks."""

import re
from collections import Counter
from collections.abc import Sequence, Set
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tireid.captions import parse
from tireid.data.records import Splits, captions_of
from tireid.data.tokenizers import CaptionTokenizer, load_tokenizer
from tireid.runs.weights import TOKENIZER_FOLDER
from tireid.world.background import SCENES
from tireid.world.captions import write_caption
from tireid.world.identities import make_population
from tireid.world.pose import VIEWS
from tireid.world.settings import WorldSettings
from tireid.world.visibility import Sight, visible_attributes

_WORD = re.compile(r"[a-z]+")
_SHOWN = 12  # unknown words
_NO_WORD = "\ua66e"  # a letter of one manuscript, which vocabularies lack


class Words(NamedTuple):
    """What the captions of a data set say.

    Attributes:
        captions: Number of captions.
        named: Share of the captions that name each attribute, in percent, the most named first.
        vocabulary: Whose words are known.
        unknown: Share of the words that are not known, in percent.
        examples: The most frequent of these, each with its number.
    """

    captions: int
    named: dict[str, float]
    vocabulary: str
    unknown: float
    examples: dict[str, int]


class Vocabulary(NamedTuple):
    """Words that are known.

    Attributes:
        name: Whose they are.
        tokenizer: Knows those that it has as one token; None: those of the synthetic captions are.
    """

    name: str = "the synthetic captions"
    tokenizer: CaptionTokenizer | None = None

    def knows(self, words: Sequence[str]) -> Set[str]:
        """Return the known ones of some words."""
        if self.tokenizer is None:
            return _synthetic_words() & set(words)
        bare, unknown, *ids = self.tokenizer(["", _NO_WORD, *words])
        length = len(bare) + 1
        return {
            word
            for word, own in zip(words, ids, strict=True)
            if len(own) == length and own != unknown
        }


def vocabulary_of(model: Path | None) -> Vocabulary:
    """Return the vocabulary of a model, or that of the synthetic captions.

    Args:
        model: Folder of a run or an export; None: there is none.

    Raises:
        FileNotFoundError: If the folder lacks a tokenizer.
        ValueError: If its files are damaged.
    """
    if model is None:
        return Vocabulary()
    return Vocabulary(str(model), load_tokenizer(model / TOKENIZER_FOLDER))


def said_words(splits: Splits, vocabulary: Vocabulary) -> Words | None:
    """Return what the captions of all splits say; None where there are none.

    Args:
        splits: Records of each split.
        vocabulary: The words that are known.
    """
    captions = [text for records in splits.values() for text in captions_of(records)]
    if not captions:
        return None
    named = Counter(name for text in captions for name in parse(text).values())
    words = Counter(word for text in captions for word in _words_of(text))
    known = vocabulary.knows(sorted(words))
    unknown = Counter({word: n for word, n in words.items() if word not in known})
    return Words(
        len(captions),
        {name: 100 * n / len(captions) for name, n in named.most_common()},
        vocabulary.name,
        100 * unknown.total() / max(1, words.total()),
        dict(unknown.most_common(_SHOWN)),
    )


@cache
def _synthetic_words() -> frozenset[str]:
    """Return the words of captions that name all of many synthetic people, from all sides."""
    rng, views = np.random.default_rng(0), sorted(VIEWS)
    texts: list[str] = []
    for identity in make_population(WorldSettings()):
        view = views[rng.integers(len(views))]
        seen = visible_attributes(identity.person, view, frozenset(range(256)))
        walking, straps_only = rng.random(2) < (0.5, 0.1)
        scene = SCENES[rng.integers(len(SCENES))]
        sight = Sight(seen, view, bool(walking), scene, straps_only=bool(straps_only))
        caption = write_caption(identity.person, sight, detail=rng.random(), noise=0.0, rng=rng)
        texts.append(caption.text)
    return frozenset(word for text in texts for word in _words_of(text))


def _words_of(text: str) -> list[str]:
    """Return the words of a text in small letters, without the end of "woman's"."""
    return _WORD.findall(text.lower().replace("\u2019", "'").replace("'s", ""))
