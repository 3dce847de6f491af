import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tireid.world import WorldSettings, ensure_world
from tireid.world.attributes import ACCESSORIES, NONE, Person, choices
from tireid.world.captions import Caption, write_caption
from tireid.world.identities import make_population, make_twin
from tireid.world.palette import COLORS
from tireid.world.pose import VIEWS
from tireid.world.visibility import Sight, visible_attributes

# Words of real captions that version 1 lacks.
WANTED = (
    "sleeves socks belt watch collar buttons floral scarf tie leggings slippers girl boy young "
    "child bicycle pony tail straight gold waist tucked writing arm arms hands large small tight "
    "carries while appears walks holds haired underneath straps feet wrist neck older"
)


def people(version: int, count: int = 250) -> list[Person]:
    settings = WorldSettings(num_train_ids=count, num_val_ids=0, num_test_ids=0, version=version)
    return [identity.person for identity in make_population(settings)]


def told(person: Person, seed: int, version: int, view: str = "left") -> Caption:
    sight = Sight(
        visible=visible_attributes(person, view, frozenset(range(1, 30))),
        view=view,
        walking=seed % 4 > 0,
        scene="street",
        straps_only=False,
    )
    rng = np.random.default_rng(seed)
    return write_caption(person, sight, detail=0.55, noise=0.0, rng=rng, version=version)


@pytest.fixture(scope="module")
def crowd_2() -> list[tuple[Person, Caption]]:
    views = list(VIEWS)
    return [
        (person, told(person, number, 2, views[number % len(views)]))
        for number, person in enumerate(people(2) * 6)
    ]


def test_version_1_keeps_its_people_and_its_sentences():
    captions = [told(person, number, 1).text for number, person in enumerate(people(1, 150))]
    digest = hashlib.sha256("\n".join(captions).encode()).hexdigest()
    assert digest == "6d8b3500869e2524b3223b784c6d12a3a20232aa91a1abd2f171aa5037a19132"
    assert "version" not in WorldSettings().to_dict()
    assert WorldSettings(version=2).to_dict()["version"] == 2
    assert set(people(1, 2)[0].to_dict(1)) == set(people(2, 2)[0].to_dict(2)) - {
        *("age", "top_tucked", "lower_fit", "bag_size", *ACCESSORIES)
    }


def test_both_versions_lie_side_by_side_and_1_is_what_no_version_means(
    tmp_path: Path, tiny: WorldSettings, fingerprint: Callable, read_truth: Callable
):
    first = ensure_world(tmp_path, tiny, progress=False)
    second = ensure_world(tmp_path, replace(tiny, version=2), progress=False)
    assert first.name != second.name
    assert ensure_world(tmp_path, replace(tiny, version=1), progress=False) == first
    assert "version" not in json.loads((first / "settings.json").read_text())
    again = ensure_world(tmp_path / "again", replace(tiny, version=2), progress=False)
    assert fingerprint(again) == fingerprint(second)
    for row in read_truth(second):
        for caption in row["captions"]:
            assert set(caption["mentioned"]) <= set(row["visible"])


def test_the_words_of_real_captions_are_among_its_words(crowd_2):
    words = set(re.findall(r"[a-z]+", " ".join(caption.text.lower() for _, caption in crowd_2)))
    assert set(WANTED.split()) - words == set()
    assert len(words) > 450


def test_its_sentences_are_as_long_as_those_of_version_1_nearly(crowd_2):
    lengths = [len(caption.text.split()) for _, caption in crowd_2]
    before = [len(told(person, n, 1).text.split()) for n, person in enumerate(people(1))]
    assert abs(np.median(lengths) - np.median(before)) <= 2
    assert np.percentile(lengths, 99) < 60


def test_its_sentences_are_well_formed(crowd_2):
    texts = [caption.text for _, caption in crowd_2]
    assert len(set(texts)) > 0.97 * len(texts)
    for text in texts:
        assert text[0].isupper()
        assert text.endswith(".")
        for slip in ("  ", " ,", "..", " .", "none", " a a", " a o", " a i", "{", "colored-", ", .",
                     " a pair of a ", "colored colored"):  # fmt: skip
            assert slip not in text.lower(), text


def test_children_are_not_called_men_or_women(crowd_2):
    for person, caption in crowd_2:
        words = set(re.findall(r"[a-z]+", caption.text.lower()))
        if person.age == "child":
            assert not words & {"man", "woman", "gentleman", "lady", "guy", "adult"}, caption.text
        else:
            assert not words & {"child", "kid", "little"} - {"little"}, caption.text
        if "age" not in caption.mentioned:
            assert not words & {"young", "teenage", "older", "elderly", "old", "boy", "girl"}


def test_text_depends_on_the_accessories_that_are_mentioned_and_no_others():
    changed: dict[bool, list[bool]] = {True: [], False: []}
    for seed, person in enumerate(people(2, 100)):
        caption = told(person, seed, 2)
        for name in ("belt", "scarf", "tie", "socks", "watch"):
            for color in choices(person, name)[:1]:
                other = told(replace(person, **{name: color}), seed, 2)
                assert other.mentioned == caption.mentioned
                changed[name in caption.mentioned].append(other.text != caption.text)
    assert not any(changed[False])
    assert np.mean(changed[True]) > 0.8


def test_its_people_are_consistent():
    rng = np.random.default_rng(0)
    for person in people(2):
        for one in (person, make_twin(person, rng)):
            assert one.belt == NONE or one.top_tucked == "tucked"
            assert one.tie == NONE or one.scarf == NONE
            assert one.age != "old" or one.hair_length == "bald" or one.hair_color == "grey"
            assert one.age != "child" or one.shoes_type != "high heels"
            assert (one.lower_type == NONE) == (one.top_type == "dress")
            for name in ACCESSORIES:
                value = getattr(one, name)
                assert value == NONE or value in COLORS
