import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tireid.world.attributes import NONE, Person, choices, sample_person
from tireid.world.captions import Caption, choose_mentioned, write_caption
from tireid.world.palette import COLORS
from tireid.world.visibility import Sight, visible_attributes


@pytest.fixture(scope="module")
def truth(crowd: Path, read_truth: Callable) -> list[dict]:
    return read_truth(crowd)


def captions_of(rows: list[dict]) -> list[tuple[dict, dict]]:
    return [(row, caption) for row in rows for caption in row["captions"]]


def test_captions_mention_only_what_the_view_shows(truth: list[dict]):
    for row, caption in captions_of(truth):
        assert set(caption["mentioned"]) <= set(row["visible"]), row["path"]
        assert caption["wrong"] == []


def test_views_hide_what_they_should(truth: list[dict]):
    for row in truth:
        visible, person = set(row["visible"]), row["attributes"]
        if row["view"].startswith("back"):
            assert "glasses" not in visible
            if person["top_pattern"] == "print":
                assert not visible & {"top_pattern", "top_color2"}
        if row["view"] == "back" and person["outer_type"] != NONE:
            assert not visible & {"top_color", "top_type", "top_pattern"}, row["path"]
        if row["view"] == "front" and person["hair_style"] in ("ponytail", "bun"):
            assert not visible & {"hair_style", "hair_length"}
        absent = {name for name, value in person.items() if value == NONE}
        assert not visible & absent


def test_main_things_are_seen_where_they_should_be(truth: list[dict]):
    fronts = [row for row in truth if row["view"] == "front" and row["occluder"] is None]
    backs = [row for row in truth if row["view"] == "back" and row["occluder"] is None]
    for row in fronts:
        assert {"sex", "top_color", "top_type"} <= set(row["visible"]), row["path"]
        if row["attributes"]["glasses"] == "sunglasses":
            assert "glasses" in row["visible"]
        if row["attributes"]["top_pattern"] == "print" and not row["attributes"]["held_type"]:
            assert "top_pattern" in row["visible"]
    shod = [row for row in fronts if row["attributes"]["lower_length"] != "long"]
    shod += [row for row in fronts if row["attributes"]["lower_type"] in ("jeans", "trousers")]
    assert np.mean(["shoes_color" in row["visible"] for row in shod]) > 0.9
    for row in backs:
        if row["attributes"]["bag_type"] == "backpack":
            assert "bag_color" in row["visible"], row["path"]


def test_no_words_of_hidden_things(truth: list[dict]):
    words = {"glasses": ("glasses", "spectacles", "shades"), "hat_type": ("beanie", "brimmed")}
    for row, caption in captions_of(truth):
        for attribute, forbidden in words.items():
            if attribute not in row["visible"]:
                assert not any(word in caption["text"] for word in forbidden), caption["text"]


def test_colors_named_are_colors_seen(truth: list[dict]):
    """Every exact colour word of the clothes belongs to a visible colour attribute."""
    plain_words = {"purple", "yellow", "orange", "maroon", "turquoise", "olive", "navy", "beige"}
    for row, caption in captions_of(truth):
        person = row["attributes"]
        allowed: set[str] = set()
        for name in caption["mentioned"]:
            color = COLORS.get(person[name])
            if color is not None and "color" in name:
                allowed |= set(" ".join((*color.words, *color.vague)).split())
        said = set(caption["text"].lower().replace(",", " ").replace(".", " ").split())
        assert said & plain_words <= allowed, caption["text"]


def test_caption_lengths_are_those_of_the_real_sets(truth: list[dict]):
    lengths = np.array([len(caption["text"].split()) for _, caption in captions_of(truth)])
    assert 17 <= np.median(lengths) <= 25
    assert np.mean((lengths >= 8) & (lengths <= 80)) >= 0.99


def test_captions_are_varied_and_well_formed(truth: list[dict]):
    texts = [caption["text"] for _, caption in captions_of(truth)]
    assert len(set(texts)) > 0.97 * len(texts)
    for text in texts:
        assert text[0].isupper()
        assert text.endswith(".")
        for slip in ("  ", " ,", "..", " .", "none", " a a", " a o", " a i", " a u", ", ."):
            assert slip not in text.lower(), text


def test_detail_is_the_mean_share_mentioned():
    visible = {"sex", "top_color", "top_type", "lower_color", "lower_type", "shoes_color"}
    visible |= {"bag_type", "bag_color", "hair_color", "hair_length", "hat_type", "glasses"}
    means = []
    for detail in (0.0, 0.25, 0.5, 0.75, 1.0):
        rng = np.random.default_rng(3)
        shares = [len(choose_mentioned(visible, detail, rng)) / len(visible) for _ in range(400)]
        means.append(np.mean(shares))
        assert np.std(shares) > 0 or detail in (0.0, 1.0)
    assert means == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0], abs=0.03)


def sight_of_everything(person: Person) -> Sight:
    return Sight(
        visible=visible_attributes(person, "left", frozenset(range(1, 13))),
        view="left",
        walking=True,
        scene="street",
        straps_only=False,
    )


def test_captions_grow_with_detail():
    medians = []
    for detail in (0.0, 0.3, 0.6, 1.0):
        rng = np.random.default_rng(4)
        lengths = []
        for _ in range(150):
            person = sample_person(rng)
            caption = write_caption(
                person, sight_of_everything(person), detail=detail, noise=0.0, rng=rng
            )
            lengths.append(len(caption.text.split()))
        medians.append(np.median(lengths))
    assert medians == sorted(medians)
    assert medians[0] < 15 < 30 < medians[-1]


def test_noise_misnames_one_mentioned_attribute():
    rng = np.random.default_rng(5)
    wrong = []
    for _ in range(300):
        person = sample_person(rng)
        caption = write_caption(person, sight_of_everything(person), detail=0.5, noise=0.3, rng=rng)
        assert set(caption.wrong) <= set(caption.mentioned)
        wrong.append(len(caption.wrong))
    assert set(wrong) == {0, 1}
    assert np.mean(wrong) == pytest.approx(0.3, abs=0.08)


COLOR_FIELDS = (
    "top_color", "lower_color", "outer_color", "shoes_color", "bag_color", "hat_color",
    "hair_color", "held_color",
)  # fmt: skip


def test_text_depends_on_what_is_mentioned_and_on_nothing_else():
    changed = {True: [], False: []}
    rng = np.random.default_rng(6)
    for seed in range(150):
        person = sample_person(rng)
        sight = sight_of_everything(person)

        def told(who: Person, sight: Sight = sight, seed: int = seed) -> Caption:
            words = np.random.default_rng(seed)
            return write_caption(who, sight, detail=0.5, noise=0.0, rng=words)

        caption = told(person)
        for name in COLOR_FIELDS:
            for color in choices(person, name)[:2]:
                other = told(replace(person, **{name: color}))
                assert other.mentioned == caption.mentioned
                changed[name in caption.mentioned].append(other.text != caption.text)
    assert not any(changed[False])
    assert np.mean(changed[True]) > 0.9  # "dark" is said of several colours


def test_two_captions_of_a_picture_differ(truth: list[dict]):
    same = [row for row in truth if len({c["text"] for c in row["captions"]}) < 3]
    assert len(same) < 0.03 * len(truth)


def test_annotation_file_tells_the_same_captions(crowd: Path, truth: list[dict]):
    entries = json.loads((crowd / "reid_raw.json").read_text(encoding="utf-8"))
    by_path = {entry["file_path"]: entry["captions"] for entry in entries}
    assert by_path == {row["path"]: [c["text"] for c in row["captions"]] for row in truth}
