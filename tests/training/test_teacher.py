"""Both stages of LCR2S by the commands a user runs: a teacher is a run like any other."""

import json
import shutil

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from tireid.data.samplers import SampleKey
from tireid.inference.build import build_datamodule
from tireid.inference.restore import find_teacher
from tireid.inference.retriever import load
from tireid.runs.results import read_runs
from tireid.training.build import build_trainer
from tireid.training.evaluate import evaluate
from tireid.training.run import train
from tireid.training.teacher import load_teacher, teacher_config


def state_of(folder):
    (best,) = folder.glob("checkpoints/epoch*.ckpt")
    return torch.load(best, weights_only=True)["state_dict"]


def teacher_of(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def lcr2s_run(small_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lcr2s_run")
    return folder, train(small_config(folder, "model=lcr2s", "teaching.oracle=true"))


def test_the_student_holds_no_teacher_and_evaluates_like_any_other(
    lcr2s_run, compose_config, capsys
):
    folder, metrics = lcr2s_run
    names = state_of(folder).keys()
    assert all(name.startswith("dual.") for name in names)
    assert not any("fusion" in name or "teacher" in name for name in names)
    (folder / "teacher").rename(folder / "elsewhere")
    try:
        again = evaluate(compose_config(f"run={folder}", "accelerator=cpu", name="evaluate"))
        assert again["test/R1"] == metrics["test/R1"]
        embeddings = load(folder).encode_image([Image.new("RGB", (20, 40), "red")])
        assert float(embeddings.norm()) == pytest.approx(1.0)
    finally:
        (folder / "elsewhere").rename(folder / "teacher")


def test_the_teachers_scores_stand_apart_and_are_labelled(lcr2s_run):
    folder, metrics = lcr2s_run
    record = json.loads((folder / "metrics.json").read_text())
    assert record["metrics"] == metrics
    assert not any("oracle" in name for name in metrics)
    teacher = record["teacher"]
    assert teacher["seconds"] > 0
    for label in ("teacher_oracle", "teacher_empty"):
        assert 0 <= teacher[f"{label}/test/R1"] <= 100


def test_a_teacher_leaves_a_run_folder_like_any_run(lcr2s_run, compose_config, capsys):
    folder, _ = lcr2s_run
    teacher = folder / "teacher"
    left = {path.name for path in teacher.iterdir()}
    assert {"config.yaml", "metrics.json", "curves.png", "tokenizer", "checkpoints"} <= left
    record = json.loads((teacher / "metrics.json").read_text())
    assert record["finished"]
    assert record["selection"] == "last"
    assert record["epochs"] == 2 * json.loads((folder / "metrics.json").read_text())["epochs"]
    config = OmegaConf.load(teacher / "config.yaml")
    assert config.model._target_ == "tireid.methods.lcr2s.Lcr2sTeacher"
    assert (config.task, config.label) == ("teacher", "LCR2S teacher")
    again = evaluate(compose_config(f"run={teacher}", "accelerator=cpu", name="evaluate"))
    assert again["test/R1"] == record["metrics"]["test/R1"]
    results = read_runs(folder)
    assert [result.label for result in results.complete] == ["LCR2S"]  # the teacher is no row


@pytest.mark.slow
def test_a_teacher_trained_by_itself_is_the_same_and_can_be_given(
    lcr2s_run, undrawn_config, tmp_path
):
    folder, metrics = lcr2s_run
    alone = tmp_path / "teacher_alone"
    train(undrawn_config(alone, "model=lcr2s_teacher", "max_epochs=4", "selection=last"))
    expected, found = teacher_of(folder / "teacher"), teacher_of(alone)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name
    for number, given in enumerate((alone, alone / "checkpoints" / "last.ckpt")):
        student = tmp_path / str(number)
        assert train(undrawn_config(student, "model=lcr2s", f"teacher={given}")) == metrics
        assert not (student / "teacher").exists()


@pytest.mark.slow
def test_a_complete_teacher_is_kept_and_another_setting_trains_another(
    lcr2s_run, undrawn_config, tmp_path, capsys
):
    folder, metrics = lcr2s_run
    shutil.copytree(folder / "teacher", tmp_path / "teacher")
    assert train(undrawn_config(tmp_path, "model=lcr2s")) == metrics
    assert "teacher: complete already" in capsys.readouterr().out
    before = teacher_of(tmp_path / "teacher")
    train(
        undrawn_config(
            tmp_path, "model=lcr2s", "model.teacher.supports.num_images=1", "ckpt_path=null"
        )
    )
    assert "LCR2S teacher on synthetic" in capsys.readouterr().out
    after = teacher_of(tmp_path / "teacher")
    assert not all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.slow
def test_targets_are_computed_once_in_the_precision_of_the_training(
    undrawn_config, tmp_path, capsys
):
    settings = ["model=lcr2s", "max_epochs=1", "teaching.oracle=true", "ckpt_path=null"]
    config = undrawn_config(tmp_path, *settings, "trainer.precision=64-true")
    metrics = train(config)
    assert state_of(tmp_path)["dual.image_projection.weight"].dtype == torch.float64
    assert teacher_of(tmp_path / "teacher")["dual.image_projection.weight"].dtype == torch.float64
    record = json.loads((tmp_path / "metrics.json").read_text())["teacher"]
    assert train(config) == metrics  # with the teacher as it was written
    assert "complete already" in capsys.readouterr().out
    again = json.loads((tmp_path / "metrics.json").read_text())["teacher"]
    assert {**again, "seconds": 0} == {**record, "seconds": 0}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model.teacher.fusion.heads=2",
            r"was trained with model\.teacher\.fusion\.heads=8, got 2; set it alike",
        ),
        ("model.dual.embedding_dim=64", r"with model\.dual\.embedding_dim=512, got 64"),
        ("dataset.image_size=[64,32]", r"image_size=\[48, 16\], got \[64, 32\]"),
        ("model.teacher.source=dataset", r"source='memory', got 'dataset'"),
        ("image_encoder.mean=[0.1,0.1,0.1]", r"image_encoder\.mean=\[0\.5, 0\.5, 0\.5\], got"),
        ("text_encoder.module.hidden=64", r"with text_encoder\.module\.hidden=128, got 64"),
        ("dataset.read.world_seed=5", r"knows another vocabulary, .*take .*: vocabulary=.*teacher"),
    ],
)
def test_a_teacher_that_would_say_something_else_is_refused(
    lcr2s_run, undrawn_config, tmp_path, override, message
):
    given = f"teacher={lcr2s_run[0] / 'teacher'}"
    with pytest.raises(ValueError, match=rf"teacher: .*last\.ckpt .*{message}"):
        train(undrawn_config(tmp_path, "model=lcr2s", given, override))


@pytest.mark.slow
def test_the_vocabulary_of_a_teacher_of_other_people_can_be_taken(
    lcr2s_run, undrawn_config, tmp_path
):
    teacher = lcr2s_run[0] / "teacher"
    given = ["dataset.read.world_seed=5", f"teacher={teacher}", f"vocabulary={teacher}"]
    with pytest.warns(UserWarning, match=r"trained on other images or captions .synthetic."):
        train(undrawn_config(tmp_path, "model=lcr2s", "max_epochs=1", *given))
    name = "tokenizer/tokenizer.json"
    assert (tmp_path / name).read_bytes() == (teacher / name).read_bytes()


def test_a_teacher_of_other_people_is_named_and_leaves_its_heads(
    lcr2s_run, undrawn_config, small_data, tmp_path, monkeypatch
):
    """With the data it was trained on, all of it is loaded, and with others its features."""
    run = lcr2s_run[0] / "teacher"
    cfg = undrawn_config(tmp_path, "model=lcr2s")
    trainer = build_trainer(cfg, [], [])
    resolved = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    kept = teacher_of(run)
    teacher = load_teacher(run, resolved, small_data, trainer)
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, kept[name]), name

    monkeypatch.setattr(small_data, "fingerprints", lambda: {"train": "others"})
    with pytest.warns(UserWarning, match="trained on other images or captions .synthetic."):
        teacher = load_teacher(run, resolved, small_data, trainer)
    assert torch.equal(
        teacher.fusions[0].mixer.to_key.weight, kept["fusions.0.mixer.to_key.weight"]
    )
    for name in ("classifier.weight", "dual.classifier.weight"):
        assert not torch.equal(teacher.state_dict()[name], kept[name])


def test_the_teachers_config_is_the_students_but_for_what_makes_it_one(undrawn_config, tmp_path):
    cfg = undrawn_config(
        tmp_path, "model=lcr2s", "selection=test", "init_weights=some/run", "max_epochs=3"
    )
    before = cfg.copy()
    stage = OmegaConf.to_container(teacher_config(cfg, tmp_path), resolve=True)
    assert cfg == before
    student = OmegaConf.to_container(cfg, resolve=True)
    assert stage["max_epochs"] == stage["trainer"]["max_epochs"] == 6
    assert (stage["selection"], stage["validation_split"], stage["monitor"]) == (
        "last",
        "val",
        "val/R1",
    )
    assert (stage["init_weights"], stage["vocabulary"]) == (None, "some/run")
    assert stage["callbacks"]["record"]["output_dir"] == str(tmp_path / "teacher")
    assert stage["model"] == {
        k: v for k, v in student["model"]["teacher"].items() if k[0] != "_"
    } | {"_target_": "tireid.methods.lcr2s.Lcr2sTeacher"}
    same = ("seed", "batch_size", "dataset", "image_encoder", "text_encoder", "recipe", "strategy")
    assert {name: stage[name] for name in same} == {name: student[name] for name in same}


def test_the_two_stages_share_no_batch_no_augmentation_and_no_support_set(undrawn_config, tmp_path):
    cfg = undrawn_config(tmp_path, "model=lcr2s_plain", "dataset.read.images_per_id=5")
    orders, images, supports = [], [], []
    for stage in (cfg, teacher_config(cfg, tmp_path)):
        data = build_datamodule(stage)
        data.setup("fit")
        loader = data.train_dataloader()
        orders.append([key.pair for key in loader.sampler])
        batch = loader.dataset.collate([SampleKey(0, pair) for pair in range(12)])
        images.append(batch.images)
        supports.append(batch.support.image_keys[batch.support.image_slots])
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]
    assert not (images[0] == images[1]).flatten(1).all(dim=1).all()
    assert not torch.equal(supports[0], supports[1])


@pytest.mark.slow
def test_the_teacher_followed_is_its_last_or_its_best_by_choice(undrawn_config, tmp_path):
    followed = {}
    for selection in ("last", "val"):
        folder = tmp_path / selection
        choice = f"teaching.selection={selection}"
        train(undrawn_config(folder, "model=lcr2s", "max_epochs=1", choice))
        record = json.loads((folder / "teacher" / "metrics.json").read_text())
        followed[selection] = (record["selection"], record["tested_checkpoint"])
        assert find_teacher(folder / "teacher").weights.name == record["tested_checkpoint"]
    assert followed["last"] == ("last", "last.ckpt")
    assert followed["val"][0] == "val"
    assert followed["val"][1].startswith("epoch")


@pytest.mark.slow
def test_without_distillation_the_student_is_its_dual_encoder(undrawn_config, tmp_path):
    alone = train(undrawn_config(tmp_path / "a", "model=baseline"))
    student = train(
        undrawn_config(
            tmp_path / "b", "model=lcr2s", "model.feature_weight=0.0", "model.relation_weight=0.0"
        )
    )
    assert not (tmp_path / "b" / "teacher").exists()
    assert student == alone
    expected = state_of(tmp_path / "a")
    found = state_of(tmp_path / "b")
    assert {f"dual.{name}" for name in expected} == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[f"dual.{name}"]), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["teaching.targets=each_step"],
        [
            "model.teacher.source=batch",
            "dataset.sampler=identity_balanced",
            "dataset.pairs_per_id=2",
        ],
        ["model.joint=true"],
        ["model.init_from_teacher=true", "seed=4294967295"],
        ["model.teacher.supports.num_images=5", "model.teacher.supports.num_texts=7"],
        [
            "model.teacher.supports.short=pad",
            "model.teacher.source=dataset",
            "teaching.targets=each_step",
        ],
        pytest.param(
            ["dataset.read.images_per_id=1", "model.teacher.source=dataset"],
            marks=pytest.mark.filterwarnings("ignore:no query has a positive beside its own"),
        ),
        ["dataset.read.layout=icfg_pedes"],
    ],
)
def test_other_settings_train_without_a_special_case(undrawn_config, tmp_path, overrides):
    settings = ["model=lcr2s", "max_epochs=1", *overrides]
    metrics = train(undrawn_config(tmp_path, *settings))
    assert 0 <= metrics["test/R1"] <= 100
    assert not any("teacher" in name for name in state_of(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["lcr2s_plain", "lcr2s_lgur"])
def test_other_compositions_train(undrawn_config, tmp_path, model):
    metrics = train(undrawn_config(tmp_path, f"model={model}", "max_epochs=1"))
    assert 0 <= metrics["test/R1"] <= 100


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("teaching.selection=test", "teaching.selection: expected last or val, got 'test'"),
        ("teaching.targets=always", "expected once or each_step, got 'always'"),
        ("teaching.max_epochs=0", "expected an integer > 0 or null, got 0"),
        ("teaching.epochs_factor=0", "teaching.epochs_factor: expected an integer > 0, got 0"),
        ("teaching.epochs_factor=true", "epochs_factor: expected an integer > 0, got True"),
        ("teaching.oracle=maybe", "teaching.oracle: expected true or false, got 'maybe'"),
        ("teaching=null", "teaching: expected a teacher's training, got None"),
        (
            "model.teacher=null",
            "teaching: expected null with a model without a teacher, got .*once",
        ),
        ("teacher=nowhere", "teacher: expected a run of model=lcr2s_teacher or .* got nowhere"),
    ],
)
def test_bad_settings_are_named_before_training(undrawn_config, tmp_path, override, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(undrawn_config(tmp_path, "model=lcr2s", override))


def test_a_method_without_a_teacher_takes_none(lcr2s_run, undrawn_config, tmp_path):
    given = f"teacher={lcr2s_run[0] / 'teacher'}"
    with pytest.raises(ValueError, match=r"teacher: expected null without model=lcr2s, got .*"):
        train(undrawn_config(tmp_path, "model=baseline", given))


@pytest.mark.parametrize(("run", "method"), [("lgur_run", "Lgur"), ("lcr2s_run", "Lcr2s")])
def test_what_is_no_teacher_is_refused(run, method, request, undrawn_config, tmp_path):
    folder, _ = request.getfixturevalue(run)
    for given in (folder, next(folder.glob("checkpoints/epoch*.ckpt"))):
        message = rf"expected a run of model=lcr2s_teacher, got one of .*\.{method}; the teacher of"
        with pytest.raises(ValueError, match=message):
            train(undrawn_config(tmp_path, "model=lcr2s", f"teacher={given}"))
        assert not (tmp_path / "config.yaml").exists()  # another one may be given


def test_supports_from_the_batch_need_batches_that_hold_some(undrawn_config, tmp_path):
    for settings in (
        ["model=lcr2s", "model.teacher.source=batch"],
        ["model=lcr2s_teacher", "model.source=batch"],
    ):
        balanced = [*settings, "dataset.sampler=identity_balanced", "dataset.pairs_per_id=1"]
        with pytest.raises(ValueError, match=r"pairs_per_id: expected at least 2 .*, got 1"):
            train(undrawn_config(tmp_path, *balanced))
        with pytest.raises(ValueError, match=r"sampler: expected identity_balanced .*, got 'shuf"):
            train(undrawn_config(tmp_path, *settings))


def test_joint_training_takes_no_trained_teacher(lcr2s_run, undrawn_config, tmp_path):
    given = f"teacher={lcr2s_run[0] / 'teacher'}"
    with pytest.raises(ValueError, match=r"expected false and null with model\.joint=true"):
        train(undrawn_config(tmp_path, "model=lcr2s", "model.joint=true", given))


@pytest.mark.slow
def test_runs_that_differ_in_the_student_only_share_a_teacher(undrawn_config, tmp_path, capsys):
    shared = tmp_path / "teachers"
    settings = ["model=lcr2s", "max_epochs=1", f"teaching.shared_dir={shared}"]
    for number, change in enumerate(
        (
            "model.feature_weight=1.0",
            "model.feature_weight=2.0",
            "model.teacher.support_dropout=0.0",
        )
    ):
        train(undrawn_config(tmp_path / str(number), *settings, change))
        assert not (tmp_path / str(number) / "teacher").exists()
    assert len(list(shared.glob("*/metrics.json"))) == 2
    assert capsys.readouterr().out.count("complete already") == 1


@pytest.mark.parametrize("content", [b"", b"no teacher", b"\x80\x04cos\nsystem\n."])
def test_a_broken_teacher_is_refused_by_name(lcr2s_run, undrawn_config, tmp_path, content):
    given = shutil.copytree(lcr2s_run[0] / "teacher", tmp_path / "given")
    (given / "checkpoints" / "last.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.ckpt: expected the weights of a training run"):
        train(undrawn_config(tmp_path / "run", "model=lcr2s", f"teacher={given}"))


def test_a_teacher_file_of_an_earlier_version_is_taken(lcr2s_run, undrawn_config, tmp_path):
    """In which the teacher was no run: `teacher/teacher.ckpt` beside its student's config."""
    folder, metrics = lcr2s_run
    earlier = tmp_path / "earlier"
    left_out = shutil.ignore_patterns("teacher", "checkpoints", "*.png")
    shutil.copytree(folder, earlier, ignore=left_out)
    (earlier / "teacher").mkdir()
    content = {"state_dict": teacher_of(folder / "teacher"), "settings": "a hash"}
    torch.save(content, earlier / "teacher" / "teacher.ckpt")
    given = f"teacher={earlier / 'teacher' / 'teacher.ckpt'}"
    assert train(undrawn_config(tmp_path / "run", "model=lcr2s", given)) == metrics


@pytest.mark.slow
def test_a_kept_teacher_that_is_damaged_is_trained_again(undrawn_config, tmp_path):
    settings = ["model=lcr2s", "max_epochs=1", "ckpt_path=null"]
    metrics = train(undrawn_config(tmp_path, *settings))
    kept = tmp_path / "teacher" / "checkpoints" / "last.ckpt"
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.warns(UserWarning, match=r"last\.ckpt: .*damaged.*; the teacher is trained again"):
        assert train(undrawn_config(tmp_path, *settings)) == metrics
