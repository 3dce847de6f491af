"""`tireid.Index` finds what `tireid evaluate` ranks, by sentences, images and filters."""

import numpy as np
import pytest
import torch
from PIL import Image

import tireid
from tireid.inference.restore import restore_datamodule
from tireid.inference.saved_config import evaluation_config
from tireid.search.indexing import IndexOptions, build_index
from tireid.search.splits import split_images


@pytest.fixture
def gallery(kept):
    return kept[1]


@pytest.fixture
def pictures(kept):
    return kept[0]


def test_results_are_the_best_images_with_all_their_fields(gallery, pictures):
    results = gallery.search("a woman in red", k=5)
    assert [result.rank for result in results] == [1, 2, 3, 4, 5]
    paths = sorted(pictures.rglob("*.png"))
    query = gallery.retriever.encode_text(["a woman in red"])
    scores = (query @ gallery.retriever.encode_image(paths).mT)[0]
    expected = scores.topk(5)
    found = torch.tensor([result.score for result in results])
    torch.testing.assert_close(found, expected.values, rtol=0, atol=1e-6)
    assert results[0].path == paths[int(expected.indices[0])]
    assert results[0].fields.keys() == {"camera", "time"}
    assert results[0].as_dict()["path"] == str(results[0].path)


def test_several_sentences_are_answered_each(gallery):
    sentences = ["a woman in red", "a man with a bag"]
    found = gallery.search_many(sentences, k=3)
    for results, sentence in zip(found, sentences, strict=True):
        alone = gallery.search(sentence, k=3)
        assert [result.path for result in results] == [result.path for result in alone]
        scores = [result.score for result in alone]
        assert [result.score for result in results] == pytest.approx(scores, abs=1e-6)


def test_an_image_finds_itself(gallery, pictures):
    path = sorted(pictures.rglob("*.png"))[4]
    best = gallery.search(image=path, k=1)[0]
    assert best.path == path
    assert best.score == pytest.approx(1, abs=1e-6)
    assert gallery.search(image=Image.open(path), k=1)[0].path == path


def test_the_weight_of_an_image_goes_from_none_of_it_to_nothing_else(gallery, pictures):
    path = sorted(pictures.rglob("*.png"))[4]
    words = "a woman in red"
    text_only = [r.path for r in gallery.search(words)]
    assert [r.path for r in gallery.search(words, image=path, image_weight=0.0)] == text_only
    image_only = [r.path for r in gallery.search(image=path)]
    assert [r.path for r in gallery.search(words, image=path, image_weight=1.0)] == image_only


def test_what_is_not_wanted_scores_lower_than_before(gallery):
    words = "a woman in red"
    unwanted = gallery.retriever.encode_text(["backpack"])[0]
    (plain,), (without,) = gallery.embed([words]), gallery.embed([words], without=["backpack"])
    assert without @ unwanted < plain @ unwanted
    assert without.norm() == pytest.approx(1, abs=1e-6)
    assert gallery.search(words, without=["backpack"])
    with pytest.raises(ValueError, match="query: expected something to search for, got nothing"):
        gallery.embed([words], without=[words, words])


def test_images_marked_right_come_nearer_and_those_marked_wrong_go(gallery):
    words = ["a woman in red"]
    (first,) = gallery.find(gallery.embed(words), 12)
    right, wrong = first[6].id, first[2].id
    (second,) = gallery.find(gallery.embed(words, right=[right], wrong=[wrong]), 12)
    place = {result.id: result.rank for result in second}
    assert place[right] < 7
    assert place[wrong] > place[right]
    (like,) = gallery.find(gallery.embed(right=[right]), 1)
    assert like[0].id == right
    with pytest.raises(ValueError, match="expected one of this index, got the id 7"):
        gallery.embed(right=[7])


def test_a_filter_keeps_what_matches(gallery):
    found = gallery.search("a woman", where="camera=2 and time>10:30:05")
    assert sorted(r.fields["time"] for r in found) == ["10:30:08", "10:30:11"]
    assert all(r.fields["camera"] == 2 for r in found)
    assert gallery.count("camera=2") == 4
    assert gallery.fields == ["camera", "time"]
    assert len(gallery) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "expected a sentence, an image, or both"),
        ({"sentence": "  "}, "expected a sentence, got '  '"),
        ({"sentence": "a", "k": 0}, "k: expected at least 1"),
        ({"sentence": "a", "image_weight": 2.0}, "image_weight: expected a number in"),
        ({"sentence": "a", "where": "camera"}, "where: expected"),
        ({"sentence": "a", "where": "cam=1"}, "did you mean camera"),
        ({"image": "nowhere.jpg"}, "nowhere.jpg: expected a readable image"),
    ],
)
def test_a_wrong_query_is_refused(gallery, arguments, message):
    with pytest.raises(ValueError, match=message):
        gallery.search(**arguments)


def test_what_is_indexed_meanwhile_is_found(fill, index_it, draw, tmp_path):
    pictures = fill(tmp_path / "pictures")
    index_it(pictures)
    with tireid.Index.open(tmp_path / "gallery", device="cpu") as gallery:
        new = draw(pictures / "new.png", 123)
        assert gallery.search(image=new, k=1)[0].path != new
        index_it(pictures)
        assert gallery.search(image=new, k=1)[0].path == new


def test_no_index_is_an_error_that_says_what_makes_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="`tireid index IMAGES --out"):
        tireid.Index.open(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected the settings of an index"),
        ('{"format": 99}', "format 99; this version"),
        ('{"format": "1"}', "index.json: format: expected a whole number, got '1'"),
        ('{"format": 1}', "index.json: model: expected a value"),
    ],
)
def test_damaged_settings_are_named(tmp_path, text, message):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        tireid.Index.open(tmp_path)


def test_another_model_at_the_same_place_is_refused(pictures, untrained_run):
    other = untrained_run("model=baseline")
    with (
        tireid.Index.open(pictures.parent / "gallery", model=str(other), device="cpu") as index,
        pytest.raises(ValueError, match="expected the one that"),
    ):
        index.search("a woman")


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_an_index_of_the_test_split_answers_as_evaluate_ranks(lgur_run, tmp_path, storage):
    """Whose metrics of the same checkpoint `evaluate` finds again: tests/training."""
    folder, metrics = lgur_run
    options = IndexOptions(model=str(folder), storage=storage, device="cpu", workers=0)
    build_index([], tmp_path / "gallery", options, split=split_images(str(folder), "test"))
    datamodule = restore_datamodule(evaluation_config(folder), folder)
    datamodule.prepare_data()
    datamodule.setup("test")
    asked = [(c, record.pid) for record in datamodule.records("test") for c in record.captions]
    with tireid.Index.open(tmp_path / "gallery", device="cpu") as index:
        found = index.search_many([caption for caption, _ in asked], k=1)
    right = [
        results[0].fields["pid"] == pid for results, (_, pid) in zip(found, asked, strict=True)
    ]
    tolerance = 0 if storage == "float32" else 0.3
    r1 = float(torch.tensor(100 * np.mean(right)))  # Lightning logs in float32
    assert abs(r1 - metrics["test/R1"]) <= tolerance


def test_an_export_knows_no_split(compose_config, lgur_run, tmp_path):
    from tireid.inference.export import export

    export(compose_config(f"run={lgur_run[0]}", f"output={tmp_path / 'out'}", name="export"))
    with pytest.raises(ValueError, match="split: expected a run"):
        split_images(str(tmp_path / "out"), "test")
