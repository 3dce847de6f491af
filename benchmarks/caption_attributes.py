"""Measure the caption parser: precision and recall per attribute, speed, words it passes over.

The sentences of `tests/captions/sentences.txt` are in the style of real captions; the rules were
written with every other one in sight, and the rest held out. The captions of the synthetic data
set have the attributes that each names as ground truth; those that it misnames are left out.
"""

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from rich.table import Table

from measured import show_and_write
from tireid.captions import Description, parse
from tireid.captions.vocabulary import COLOR_VALUES, GENERIC, LENGTHS, PATTERNS
from tireid.console import say
from tireid.data.synthetic import read_synthetic
from tireid.world.palette import COLORS as CLOTH_COLORS
from tireid.world.palette import HAIR_COLORS

SENTENCES = Path(__file__).parents[1] / "tests" / "captions" / "sentences.txt"
_TARGETS = {
    "top_type": "upper_type",
    "outer_type": "upper_type",
    "top_color": "upper_color",
    "top_color2": "upper_color",
    "outer_color": "upper_color",
    "top_pattern": "upper_pattern",
    "top_sleeves": "upper_sleeves",
    "glasses": "glasses_type",
}
_ACCESSORIES = ("belt", "scarf", "tie", "socks", "watch")
_UNREAD = (
    "top_tucked",
    "lower_fit",
    "bag_size",
    "buttons",
    "collar",
)  # which the parser passes over
Pairs = set[tuple[str, str]]
Scores = dict[str, Counter[str]]


def main() -> None:
    """Print the tables."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cache", help="folder of the synthetic data set")
    options.add_argument("--misses", action="store_true", help="print what was read wrongly")
    options.add_argument("--sentences-only", action="store_true", help="leave out synthetic ones")
    options.add_argument("--output", type=Path, default=Path("runs/bench/words.json"))
    given = options.parse_args()
    seen, held_out = sentences()
    if given.misses:
        print_misses(seen)
    columns = {"seen": score(seen), "held out": score(held_out)}
    if not given.sentences_only:
        records = read_synthetic(given.cache, version=2)["test"]
        root = records[0].image_path.parents[2]
        if given.misses:
            print_misses(synthetic_pairs(root, "val"), synthetic=True)
        columns["synthetic, test"] = score(synthetic_pairs(root, "test"), synthetic=True)
        say(speed([text for record in records for text in record.captions]))
    show_and_write(given.output, table(columns), is_timed=False)


def sentences() -> tuple[list[tuple[str, Pairs]], list[tuple[str, Pairs]]]:
    """Return the labelled sentences: those that the rules were written with, and the others."""
    lines = SENTENCES.read_text(encoding="utf-8").splitlines()
    rows = [(text.strip(), labels(marks)) for text, _, marks in (s.partition("|") for s in lines)]
    return rows[::2], rows[1::2]


def labels(marks: str) -> Pairs:
    """Return the attributes and values of a label such as `man upper(shirt dark_blue)`."""
    traits = {
        **dict.fromkeys(("man", "woman"), "sex"),
        **dict.fromkeys(("child", "young", "middle-aged", "old"), "age"),
        **dict.fromkeys(("slim", "heavy"), "build"),
        **dict.fromkeys(("tall", "short"), "height"),
    }
    pairs: Pairs = set()
    for slot, inside, trait in re.findall(r"(\w+)\(([^)]*)\)|([\w-]+)", marks):
        if trait:
            pairs.add((traits[trait], trait))
        pairs |= {_labelled(slot, mark.replace("_", " ")) for mark in inside.split()}
    return pairs


def _labelled(slot: str, value: str) -> tuple[str, str]:
    if slot == "no":
        return "absent", value
    sleeves = {"short-sleeved": "short", "long-sleeved": "long", "sleeveless": "sleeveless"}
    if slot == "hair":
        lengths = (*LENGTHS, "bald")
        kind = "color" if value in COLOR_VALUES else "length" if value in lengths else "style"
        return f"hair_{kind}", value
    if value in sleeves:
        return f"{slot}_sleeves", sleeves[value]
    for name, values in (("color", COLOR_VALUES), ("pattern", PATTERNS), ("length", LENGTHS)):
        if value in values:
            return f"{slot}_{name}", value
    return f"{slot}_type", value


def found(description: Description) -> Pairs:
    """Return the attributes and values of a description, absent things included."""
    pairs = {(name, value) for name, values in description.values().items() for value in values}
    return pairs | {("absent", thing.kind) for thing in description.things if thing.absent}


def score(rows: Iterable[tuple[str, Pairs]], *, synthetic: bool = False) -> Scores:
    """Return the counts of right, wrong and missed values of each attribute."""
    scores: Scores = {}
    for text, true in rows:
        claimed = found(parse(text))
        if synthetic:
            claimed = told(claimed, true)
        for kind, pairs in (
            ("right", claimed & true),
            ("wrong", claimed - true),
            ("missed", true - claimed),
        ):
            for name, _ in pairs:
                scores.setdefault(name, Counter())[kind] += 1
    return scores


def synthetic_pairs(root: Path, split: str) -> Iterator[tuple[str, Pairs]]:
    """Yield a split's captions of the synthetic data set with what each names."""
    lines = (root / "ground_truth.jsonl").read_text(encoding="utf-8").splitlines()
    for row in map(json.loads, lines):
        if row["split"] == split:
            for caption in row["captions"]:
                if not caption["wrong"]:
                    yield caption["text"], named(row, caption["mentioned"])


def named(row: dict[str, Any], mentioned: list[str]) -> Pairs:
    """Return the mentioned attributes under the parser's names; an average build is not said."""
    person = row["attributes"]
    pairs: Pairs = set()
    for name in mentioned:
        value, target = person[name], _TARGETS.get(name, name)
        if name in _ACCESSORIES:
            pairs |= {("accessory_type", name), ("accessory_color", value)}
            continue
        if (
            name in _UNREAD
            or value in ("average", "none")
            or (name == "lower_length" and value == "")
        ):
            continue
        if name == "lower_length":
            if person["lower_type"] not in ("shorts", "skirt", "none"):
                continue
            target = "upper_length" if person["top_type"] == "dress" else name
        if target.startswith("held") and person["held_type"] == "shopping bag":
            target = target.replace("held", "bag")
        if (target, value) == ("upper_pattern", "writing"):
            value = "print"
        if target == "hair_color":
            value = f"hair: {value}"
        pairs.add((target, value))
    return pairs


def told(claimed: Pairs, true: Pairs) -> Pairs:
    """Return claimed values in the words of the synthetic truth, as far as they fit it."""
    mapped: Pairs = set()
    names = {name for name, _ in true}
    for name, value in claimed:
        if value in GENERIC or (value == "trousers" and "lower_type" not in names):
            continue  # a word for want of a narrower one names no type
        if name == "upper_length" and name not in names:
            continue  # "long coat" is a type there
        name = name.replace("outfit", "upper")
        fitting = sorted(v for n, v in true if n == name and value in _fitting(v))
        mapped.add((name, value if value in fitting else next(iter(fitting), value)))
    return mapped


@cache
def _fitting(value: str) -> frozenset[str]:
    """Return what the parser makes of each word for a colour or an age of the synthetic people."""
    if value == "child":
        return frozenset({"young"})  # "a girl" may be either
    hair = value.startswith("hair: ")
    name = value.removeprefix("hair: ")
    color = (HAIR_COLORS if hair else CLOTH_COLORS).get(name)
    if color is None:
        return frozenset()
    texts = (
        f"{word} {'hair' if hair else 'shirt'}"
        for word in (*color.words, *color.vague, *color.more)
    )
    key = "hair_color" if hair else "upper_color"
    return frozenset().union(*(parse(text).values().get(key, set()) for text in texts))


def print_misses(rows: Iterable[tuple[str, Pairs]], *, synthetic: bool = False) -> None:
    """Print each sentence that is not read as it is labelled."""
    for text, true in rows:
        claimed = found(parse(text))
        if synthetic:
            claimed = told(claimed, true)
        if claimed != true:
            say(f"{text}\n  wrong {sorted(claimed - true)}\n  missed {sorted(true - claimed)}")


def table(columns: dict[str, Scores]) -> Table:
    """Return precision, recall and the number of true values, a row an attribute."""
    names = sorted({name for scores in columns.values() for name in scores})
    shown = Table("attribute")
    for head in (text for name in columns for text in (f"{name}: precision", "recall", "values")):
        shown.add_column(head, justify="right")
    for name in [*names, "all"]:
        of = names if name == "all" else [name]
        cells = [cell for scores in columns.values() for cell in _cells(scores, of)]
        shown.add_row(name.replace("_", ", "), *cells)
    return shown


def _cells(scores: Scores, names: list[str]) -> list[str]:
    sums = sum((scores.get(name, Counter()) for name in names), Counter())
    right, claimed, true = (
        sums["right"],
        sums["right"] + sums["wrong"],
        sums["right"] + sums["missed"],
    )
    shares = (f"{100 * right / of:.1f}" if of else "" for of in (claimed, true))
    return [*shares, f"{true:,}"]


def speed(captions: list[str]) -> str:
    """Return how many captions are read in a second, and the share of words passed over."""
    began = time.process_time()
    for caption in captions:
        parse(caption)
    rate = len(captions) / (time.process_time() - began)
    return f"{rate:,.0f} captions a second"


if __name__ == "__main__":
    main()
