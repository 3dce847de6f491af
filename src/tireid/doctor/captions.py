"""Captions: over-long, odd or shared by several people."""

import unicodedata
from collections import defaultdict
from typing import NamedTuple

from tireid.data.records import Record, Splits, captions_of
from tireid.data.tokenizers import TrainedWordPiece
from tireid.doctor.findings import Finding, first, number

# Text lengths in use: of LGUR's BERT and all bidirectional encoders here, of CLIP, of SigLIP 2.
LENGTHS = (100, 77, 64)
_CODE = ("</", "/>", "{", "}", "\\n", "\\u", "&amp;", "&#", "http")
_SHORTEST = 3  # words
# What is typed in English: quotation marks, dashes, the ellipsis, accents.
_USUAL = frozenset("\u2018\u2019\u201c\u201d\u2013\u2014\u2026")


class Cut(NamedTuple):
    """How many captions of a split are longer than a text length."""

    split: str
    length: int
    cut: int
    captions: int


def caption_findings(splits: Splits, entry: str = "entry") -> list[Finding]:
    """Return captions shared by identities, with odd characters or code, of hardly any words.

    Args:
        splits: Records whose `image_id` is the number of their entry.
        entry: The word for what has these numbers: `entry` or `line`.
    """
    return [*_shared(splits), *_odd(splits, entry), *_short(splits, entry)]


def cut_shares(splits: Splits) -> list[Cut]:
    """Return how many captions are cut at each text length, by a vocabulary learnt from training.

    Vocabularies of pre-trained encoders are larger, so that theirs are somewhat fewer.
    """
    captions = {split: captions_of(records) for split, records in splits.items() if records}
    learnt = captions.get("train") or [text for texts in captions.values() for text in texts]
    if not learnt:
        return []
    tokenizer = TrainedWordPiece()
    tokenizer.fit(learnt)
    cuts: list[Cut] = []
    for split, texts in captions.items():
        lengths = tokenizer.encode(texts)[1]
        cuts += [Cut(split, n, sum(x > n for x in lengths), len(lengths)) for n in LENGTHS]
    return cuts


def _shared(splits: Splits) -> list[Finding]:
    holders: defaultdict[str, dict[int, Record]] = defaultdict(dict)
    for records in splits.values():
        for record in records:
            for caption in record.captions:
                holders[" ".join(caption.lower().split())].setdefault(record.pid, record)
    shared = {text: people for text, people in holders.items() if len(people) > 1}
    if not shared:
        return []
    worst = sorted(shared, key=lambda text: -len(shared[text]))
    examples = (f"{len(shared[t])} identities, {list(shared[t])[:3]}: {t[:80]}" for t in worst)
    return [
        Finding(
            f"{number(len(shared), 'caption')} on several identities",
            "as queries they count the others as wrong; rewrite them, or know that they cost",
            harms=False,
            examples=first(examples),
            images=tuple(r.image_path for t in worst[:3] for r in list(shared[t].values())[:2]),
        )
    ]


def _odd(splits: Splits, entry: str) -> list[Finding]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for records in splits.values():
        for record in records:
            for caption in record.captions:
                kind = _oddity(caption)
                if kind:
                    found[kind].append(f"{entry} {record.image_id}: {ascii(caption)[:90]}")
    return [
        Finding(
            f"{number(len(places), 'caption')} with {kind}",
            "nothing is changed in silence: mend these captions",
            harms=False,
            examples=first(places),
        )
        for kind, places in found.items()
    ]


def _oddity(caption: str) -> str:
    if any(mark in caption for mark in _CODE):
        return "what looks like code"
    if caption.isascii():
        return "control characters" if not caption.replace("\n", " ").isprintable() else ""
    odd = {c for c in caption if not c.isascii() and c not in _USUAL}
    if any(unicodedata.name(c, "").startswith(("CJK", "HIRAGANA", "HANGUL")) for c in odd):
        return "CJK characters"
    is_latin = (unicodedata.name(c, "").startswith("LATIN") for c in odd)
    return "" if all(is_latin) else "characters that English hardly has"


def _short(splits: Splits, entry: str) -> list[Finding]:
    short = [
        f"{entry} {record.image_id}: {caption!r}"
        for records in splits.values()
        for record in records
        for caption in record.captions
        if len(caption.split()) < _SHORTEST
    ]
    if not short:
        return []
    title = f"{number(len(short), 'caption')} of one or two words"
    return [Finding(title, "they describe nobody; mend them", harms=False, examples=first(short))]
