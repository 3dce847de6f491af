"""The model of a search: found by a word, and known by its fingerprint."""

import os
import shutil

import pytest
import torch
from PIL import Image

import tireid
from tireid.data.images import read_image, resampling
from tireid.inference.export import export
from tireid.search.model import find_model, load_model


@pytest.fixture
def runs(untrained_run, tmp_path):
    """Return a folder of three runs, of which `lgur/old` is older than the others."""
    run = untrained_run("model=baseline")
    for age, name in enumerate(("baseline/new", "lgur/newer", "lgur/old")):
        shutil.copytree(run, tmp_path / "runs" / "synthetic" / name)
        changed = 1_000_000 - 100 * age
        os.utime(tmp_path / "runs" / "synthetic" / name / "checkpoints" / "last.ckpt", (0, changed))
    return tmp_path / "runs"


def test_nothing_given_is_the_newest_run_and_it_is_said(runs, capsys):
    found = find_model(None, runs)
    assert found == runs / "synthetic" / "baseline" / "new"
    assert str(found) in capsys.readouterr().err


def test_a_word_is_the_newest_run_with_it_in_its_path(runs):
    assert find_model("lgur", runs) == runs / "synthetic" / "lgur" / "newer"
    assert find_model("old", runs).name == "old"


def test_the_run_of_a_teacher_is_not_taken_for_one(runs):
    teacher = runs / "synthetic" / "lgur" / "old" / "teacher"
    shutil.copytree(runs / "synthetic" / "baseline" / "new", teacher)
    assert find_model(None, runs).name == "new"


def test_a_path_is_taken_as_it_is(runs):
    assert find_model(str(runs / "synthetic" / "lgur" / "old"), runs).name == "old"


@pytest.mark.parametrize("name", [None, "lgru"])
def test_no_model_is_an_error_that_says_what_makes_one(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="`tireid train` makes one"):
        find_model(name, tmp_path / "runs")


def test_a_model_of_synthetic_people_says_so(runs, capsys):
    model = load_model(find_model("lgur", runs), "cpu")
    assert model.trained_on == "synthetic"
    assert "synthetic people" in capsys.readouterr().err


def test_a_run_and_its_export_have_one_fingerprint_and_other_weights_another(
    untrained_run, compose_config, tmp_path
):
    run = untrained_run("model=lgur")
    export(compose_config(f"run={run}", f"output={tmp_path / 'out'}", name="export"))
    fingerprint = tireid.load(run, "cpu").fingerprint
    assert tireid.load(tmp_path / "out", "cpu").fingerprint == fingerprint
    file = run / "checkpoints" / "last.ckpt"
    state = torch.load(file, weights_only=True)
    name = next(name for name in state["state_dict"] if name.startswith("image_encoder"))
    state["state_dict"][name] += 1e-3
    torch.save(state, file)
    assert tireid.load(run, "cpu").fingerprint != fingerprint


def test_pixels_are_embedded_as_the_images_they_are_of(untrained_run, tmp_path):
    retriever = tireid.load(untrained_run("model=lgur"), "cpu")
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        Image.new("RGB", (30, 70), (80 * number, 90, 200)).save(path)
    filter_ = resampling(retriever.interpolation)
    pixels = torch.stack([read_image(path, retriever.image_size, filter_) for path in paths])
    assert torch.equal(retriever.encode_pixels(pixels), retriever.encode_image(paths))
