"""The parser reads captions in the style of real ones, with negation, lists and odd order."""

import importlib
from pathlib import Path

import pytest

from tireid.captions import parse

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_sentences_that_the_rules_were_not_written_with_are_read_as_labelled(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    measure = importlib.import_module("caption_attributes")
    seen, held_out = measure.sentences()
    assert len(seen) + len(held_out) >= 120
    for rows in (seen, held_out):
        scores = measure.score(rows)
        sums = {
            kind: sum(s[kind] for s in scores.values()) for kind in ("right", "wrong", "missed")
        }
        assert sums["right"] / (sums["right"] + sums["wrong"]) > 0.97
        assert sums["right"] / (sums["right"] + sums["missed"]) > 0.97


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("the pants are black", {"lower_type": {"trousers"}, "lower_color": {"black"}}),
        ("Black is the colour of the shoes", {"shoes_type": {"shoes"}, "shoes_color": {"black"}}),
        ("a red or blue shirt", {"upper_type": {"shirt"}, "upper_color": {"red", "blue"}}),
        ("a balck t-shirt", {"upper_type": {"t-shirt"}, "upper_color": {"black"}}),
        ("he has a bag on his back", {"sex": {"man"}, "bag_type": {"backpack"}}),
        ("her top is a white blouse", {"sex": {"woman"}, "upper_type": {"blouse"},
                                       "upper_color": {"white"}}),
        ("her shoes are not visible", {"sex": {"woman"}}),
        ("the coat worn by the man is red, his", {"upper_type": {"coat"}, "upper_color": {"red"},
                                                  "sex": {"man"}}),
        ("jeans that she wears are blue.", {"lower_type": {"jeans"}, "lower_color": {"blue"},
                                            "sex": {"woman"}}),
        ("his bag is not black but grey", {"bag_type": {"bag"}, "bag_color": {"grey"},
                                           "sex": {"man"}}),
        ("a red coat, the collar is white", {"upper_type": {"coat"}, "upper_color": {"red"}}),
        ("a red coat and a brown wallet", {"upper_type": {"coat"}, "upper_color": {"red"}}),
        ("a coat whose sleeves are short", {"upper_type": {"coat"}, "upper_sleeves": {"short"}}),
        ("a red bag and a blue one", {"bag_type": {"bag"}, "bag_color": {"red", "blue"}}),
        ("flat black shoes, cropped grey jeans", {"shoes_type": {"flats"}, "shoes_color": {"black"},
                                                  "lower_type": {"capris"},
                                                  "lower_color": {"grey"}}),
        ("a yelow jaket, dark-coloured", {"upper_type": {"jacket"}, "upper_color": {"yellow",
                                                                                    "dark"}}),
        ("", {}),
        ("\u5973\u4eba, 1/2 & -- '", {}),
    ],
)  # fmt: skip
def test_colours_belong_to_their_noun_in_any_order(caption, expected):
    assert parse(caption).values() == expected


def test_what_is_said_to_be_absent_is_no_value():
    read = parse("A man without a hat, scarf or gloves, in jeans, not carrying a bag.")
    assert read.values() == {"sex": {"man"}, "lower_type": {"jeans"}}
    assert [t.kind for t in read.things if t.absent] == ["hat", "scarf", "gloves", "bag"]
