"""`explain` leaves images in the run folder; a teacher's only where there is one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image

from tireid.explanations import explain as explain_module
from tireid.explanations import support_pages
from tireid.explanations.explain import explain
from tireid.inference.build import build_encoders
from tireid.inference.restore import teacher_of
from tireid.inference.saved_config import evaluation_config

SMALL_HEAD = ["model.head.dictionary_size=20", "model.head.num_prototypes=2"]


@pytest.fixture
def explained(compose_config):
    def made(run, *overrides):
        return explain(
            compose_config(
                f"run={run}",
                "accelerator=cpu",
                "queries=2",
                "images=2",
                "atoms=3",
                "sample=6",
                *overrides,
                name="explain",
            )
        )

    return made


def names(paths):
    return [path.name for path in paths]


def test_lgur_leaves_pages_of_queries_and_atoms(untrained_run, explained):
    run = untrained_run("model=lgur", *SMALL_HEAD)
    paths = explained(run)
    assert len(paths) == 4
    assert names(paths)[0] == "overview.png"
    assert names(paths)[-1] == "atoms.png"
    for path in paths:
        assert path.parent == run / "explanations"
        with Image.open(path) as page:
            pixels = np.asarray(page.convert("L"))
        assert pixels.shape[1] > 800
        for edge in (pixels[:20], pixels[-20:], pixels[:, :20], pixels[:, -20:]):
            assert (edge == 255).all()  # the margin
    # Named captions; pages of the earlier ones do not stay, what is not ours does.
    (run / "explanations" / "notes.txt").write_text("mine")
    again = explained(run, "queries=[3]", "split=val")
    assert names(again) == ["overview.png", "query_00003.png", "atoms.png"]
    assert {p.name for p in (run / "explanations").iterdir()} == {*names(again), "notes.txt"}


@pytest.mark.parametrize("model", ["baseline", "irra", "rde"])
def test_the_score_is_shown_where_tokens_are_pooled(untrained_run, explained, model):
    assert len(explained(untrained_run(f"model={model}"))) == 3


def test_rde_shows_its_chosen_tokens_over_any_encoder(untrained_run, explained):
    towers = ["image_encoder=clip_tiny", "text_encoder=clip_text_tiny"]
    assert len(explained(untrained_run("model=rde", *towers))) == 3


def test_where_no_tokens_are_pooled_there_is_nothing_to_show(untrained_run, explained, capsys):
    run = untrained_run("model=baseline", "image_encoder=vit_tiny", "text_encoder=clip_text_tiny")
    assert explained(run) == []
    assert "nothing to show over images and words" in capsys.readouterr().out


def with_teacher(run):
    """Leave an untrained teacher as an earlier version did, to which it was no run; return it."""
    cfg = evaluation_config(run)
    torch.manual_seed(5)
    build = instantiate(cfg.model.teacher, _convert_="all")
    teacher = build(num_train_pids=1, **build_encoders(cfg))
    (run / "teacher").mkdir()
    torch.save({"state_dict": teacher.state_dict()}, run / "teacher" / "teacher.ckpt")
    return teacher


def test_a_teacher_shows_its_attention_as_an_oracle(untrained_run, explained, capsys, monkeypatch):
    run = untrained_run("model=lcr2s", "model.teacher.fusion.heads=2")
    one = ("queries=[0]", "images=1", "sample=1")
    assert "supports.png" not in names(explained(run, *one))
    assert "give it: teacher=" in capsys.readouterr().out
    teacher = with_teacher(run).eval()
    found, said = [], []
    real, save = support_pages._attention, support_pages.save_page

    def kept(fusion, features):
        weights = real(fusion, features)
        found.append((features, weights))
        return weights

    def saved(*args):
        said.extend(args[-1])  # the warnings
        return save(*args)

    monkeypatch.setattr(support_pages, "_attention", kept)
    monkeypatch.setattr(support_pages, "save_page", saved)
    assert names(explained(run))[-1] == "supports.png"
    assert any(line.startswith("ORACLE: ") and "test identities" in line for line in said)
    assert len(found) == 4  # the image and the caption of two queries
    for number, (features, weights) in enumerate(found):
        fusion = teacher.text_fusion if number % 2 else teacher.image_fusion
        valid = torch.ones(1, len(features) - 1, dtype=torch.bool)
        with torch.no_grad():
            expected = fusion.attention(features[:1], features[None, 1:], valid)[0]
        torch.testing.assert_close(weights, expected)
        torch.testing.assert_close(weights.sum(1), torch.ones(2))

    said.clear()
    explained(run, "split=train", *one)
    assert not any("ORACLE" in line for line in said)


def test_a_teacher_that_was_trained_along_is_read_from_the_runs_checkpoint(
    untrained_run, explained, monkeypatch
):
    run = untrained_run("model=lcr2s", "model.joint=true", "model.teacher.fusion.heads=2")
    one = ("queries=[0]", "images=1", "sample=1")
    with pytest.raises(ValueError, match=r"last\.ckpt: expected the weights.* it has no teacher"):
        explained(run, *one)
    teacher = with_teacher(run)
    shutil.rmtree(run / "teacher")
    checkpoint = run / "checkpoints" / "last.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    torch.save(content | {"teacher": teacher.state_dict()}, checkpoint)
    shown = []
    real = explain_module.draw_supports
    monkeypatch.setattr(
        explain_module,
        "draw_supports",
        lambda drawn, *args, **settings: shown.append(drawn) or real(drawn, *args, **settings),
    )
    assert names(explained(run, *one))[-1] == "supports.png"
    for name, weight in shown[0].fusions.named_parameters():
        assert torch.equal(weight, teacher.fusions.get_parameter(name))


def test_a_teacher_is_found_where_the_record_or_the_config_says(
    untrained_run, explained, small_config, tmp_path
):
    run, one = untrained_run("model=lcr2s"), ("queries=[0]", "images=1", "sample=1")
    alone = untrained_run("model=lcr2s_teacher")
    assert names(explained(run, *one, f"teacher={alone}"))[-1] == "supports.png"
    assert names(explained(alone, *one))[-1] == "supports.png"  # it is a run itself
    checkpoint = alone / "checkpoints" / "last.ckpt"
    record = {"teacher": {"run": str(checkpoint)}}
    (run / "metrics.json").write_text(json.dumps(record))
    assert names(explained(run, *one))[-1] == "supports.png"
    (run / "metrics.json").unlink()
    assert "supports.png" not in names(explained(run, *one))
    follower = untrained_run("model=lcr2s", f"teacher={alone}")
    found = teacher_of(evaluation_config(follower), follower, Path("none"))
    assert (found.folder, found.weights) == (alone, checkpoint)
    with pytest.raises(FileNotFoundError, match=r"none: expected a run folder with checkpoints"):
        explained(run, *one, f"teacher={tmp_path / 'none'}")


def test_a_recorded_teacher_is_looked_for_in_its_place_and_not_below(untrained_run, monkeypatch):
    run = untrained_run("model=lcr2s")
    (run / "metrics.json").write_text(json.dumps({"teacher": {"run": "/"}}))
    monkeypatch.setattr(Path, "rglob", lambda *_: pytest.fail("searches the whole disk"))
    assert teacher_of(evaluation_config(run), run, Path("none")) is None


def test_a_link_in_place_of_the_folder_is_not_followed(untrained_run, explained, tmp_path):
    run = untrained_run("model=lgur")
    (tmp_path / "overview.png").touch()
    (run / "explanations").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="explanations: expected a folder to write to, got a link"):
        explained(run, "queries=[0]", "images=1", "sample=1")
    assert [path.name for path in tmp_path.iterdir()] == ["overview.png"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("queries=0", "queries: expected a number > 0 or positions"),
        ("queries=[]", "queries: expected a number > 0 or positions"),
        ("queries=[0,999]", r"queries: expected positions from 0 to 15, got \[999\]"),
        ("split=all", "split: expected test, val or train, got 'all'"),
        ("atoms=0", "atoms: expected an integer > 0, got 0"),
    ],
)
def test_wrong_settings_say_what_is_right(lgur_like, explained, override, message):
    with pytest.raises(ValueError, match=message):
        explained(lgur_like, override)


@pytest.fixture(scope="module")
def lgur_like(untrained_run):
    return untrained_run("model=baseline")
