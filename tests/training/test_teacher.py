"""Both stages of LCR2S by the commands a user runs."""

import json
import shutil

import pytest
import torch
from hydra.utils import instantiate
from PIL import Image

from tireid.inference.build import build_encoders
from tireid.inference.retriever import load
from tireid.training.evaluate import evaluate
from tireid.training.run import train
from tireid.training.teacher_file import load_given_teacher


def state_of(folder):
    (best,) = folder.glob("checkpoints/epoch*.ckpt")
    return torch.load(best, weights_only=True)["state_dict"]


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


def test_a_complete_teacher_is_kept_and_another_setting_trains_another(
    lcr2s_run, small_config, tmp_path, capsys
):
    folder, metrics = lcr2s_run
    checkpoint = folder / "teacher" / "teacher.ckpt"
    written = checkpoint.stat().st_mtime_ns
    given = train(small_config(tmp_path, "model=lcr2s", f"teaching.checkpoint={checkpoint}"))
    assert given == metrics
    assert not (tmp_path / "teacher").exists()
    capsys.readouterr()
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "teacher.ckpt").write_bytes(checkpoint.read_bytes())
    assert train(small_config(tmp_path, "model=lcr2s")) == metrics
    assert "complete already" in capsys.readouterr().out
    train(small_config(tmp_path, "model=lcr2s", "supports.num_images=1"))
    assert "stage 1 of 2" in capsys.readouterr().out
    assert checkpoint.stat().st_mtime_ns == written


def test_targets_are_computed_once_in_the_precision_of_the_training(small_config, tmp_path, capsys):
    settings = ["model=lcr2s", "max_epochs=1", "teaching.oracle=true", "ckpt_path=null"]
    config = small_config(tmp_path, *settings, "trainer.precision=64-true")
    metrics = train(config)
    assert state_of(tmp_path)["dual.image_projection.weight"].dtype == torch.float64
    kept = torch.load(tmp_path / "teacher" / "teacher.ckpt", weights_only=True)["state_dict"]
    assert kept["dual.image_projection.weight"].dtype == torch.float64
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
            r"was trained with .*fusion\.heads=8, got 2; set it alike",
        ),
        ("dataset.image_size=[64,32]", r"image_size=\[48, 16\], got \[64, 32\]"),
        ("model.teacher.source=dataset", r"source='memory', got 'dataset'"),
        ("dataset.read.world_seed=5", r"knows another vocabulary, learnt from other captions"),
    ],
)
def test_a_teacher_that_would_say_something_else_is_refused(
    lcr2s_run, small_config, tmp_path, override, message
):
    checkpoint = lcr2s_run[0] / "teacher" / "teacher.ckpt"
    given = f"teaching.checkpoint={checkpoint}"
    with pytest.raises(ValueError, match=rf"teaching\.checkpoint: .*teacher\.ckpt .*{message}"):
        train(small_config(tmp_path, "model=lcr2s", given, override))


def test_a_teacher_of_other_people_is_named_and_leaves_its_heads(
    lcr2s_run, small_config, small_data, tmp_path, monkeypatch
):
    """With the data it was trained on, all of it is loaded, and with others its features."""
    file = lcr2s_run[0] / "teacher" / "teacher.ckpt"
    cfg = small_config(tmp_path, "model=lcr2s")
    kept = torch.load(file, weights_only=True)["state_dict"]
    teacher = untrained_teacher(cfg, small_data.num_train_pids)
    load_given_teacher(teacher, file, cfg, small_data)
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, kept[name]), name

    monkeypatch.setattr(small_data, "fingerprints", lambda: {"train": "others"})
    teacher = untrained_teacher(cfg, 3)
    with pytest.warns(UserWarning, match="trained on other images or captions .synthetic."):
        load_given_teacher(teacher, file, cfg, small_data)
    assert torch.equal(
        teacher.fusions[0].mixer.to_key.weight, kept["fusions.0.mixer.to_key.weight"]
    )
    assert teacher.dual.classifier.weight.shape[0] == teacher.classifier.weight.shape[0] == 3


def untrained_teacher(cfg, num_train_pids):
    build = instantiate(cfg.model.teacher, _convert_="all")
    return build(num_train_pids=num_train_pids, **build_encoders(cfg))


def test_without_distillation_the_student_is_its_dual_encoder(small_config, tmp_path):
    alone = train(small_config(tmp_path / "a", "model=baseline"))
    student = train(
        small_config(
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
        ["supports.num_images=5", "supports.num_texts=7"],
        ["supports.short=pad", "model.teacher.source=dataset", "teaching.targets=each_step"],
        pytest.param(
            ["dataset.read.images_per_id=1", "model.teacher.source=dataset"],
            marks=pytest.mark.filterwarnings("ignore:no query has a positive beside its own"),
        ),
        ["dataset.read.layout=icfg_pedes"],
    ],
)
def test_other_settings_train_without_a_special_case(small_config, tmp_path, overrides):
    settings = ["model=lcr2s", "max_epochs=1", *overrides]
    metrics = train(small_config(tmp_path, *settings))
    assert 0 <= metrics["test/R1"] <= 100
    assert not any("teacher" in name for name in state_of(tmp_path))


@pytest.mark.parametrize("model", ["lcr2s_plain", "lcr2s_lgur"])
def test_other_compositions_train(small_config, tmp_path, model):
    metrics = train(small_config(tmp_path, f"model={model}", "max_epochs=1"))
    assert 0 <= metrics["test/R1"] <= 100


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("teaching.targets=always", "expected once or each_step, got 'always'"),
        ("teaching.max_epochs=0", "expected an integer > 0 or null, got 0"),
        ("teaching.epochs_factor=0", "teaching.epochs_factor: expected an integer > 0, got 0"),
        ("teaching.epochs_factor=true", "epochs_factor: expected an integer > 0, got True"),
        ("teaching.oracle=maybe", "teaching.oracle: expected true or false, got 'maybe'"),
        ("~teaching", "teaching: expected a teacher's training, got None"),
        (
            "model.teacher=null",
            "teaching: expected null with a model without a teacher, got .*once",
        ),
        ("teaching.checkpoint=nowhere.ckpt", "expected a teacher.ckpt .* got nowhere.ckpt"),
    ],
)
def test_bad_settings_are_named_before_training(small_config, tmp_path, override, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(small_config(tmp_path, "model=lcr2s", override))


@pytest.mark.parametrize("run", ["lgur_run", "lcr2s_run"])
def test_what_is_no_teacher_is_refused(run, request, small_config, tmp_path):
    folder, _ = request.getfixturevalue(run)
    checkpoint = tmp_path / "given.ckpt"
    shutil.copy(next(folder.glob("checkpoints/epoch*.ckpt")), checkpoint)
    with pytest.raises(ValueError, match=r"given\.ckpt: expected a teacher, got the weights of"):
        train(small_config(tmp_path, "model=lcr2s", f"teaching.checkpoint={checkpoint}"))


def test_supports_from_the_batch_need_batches_that_hold_some(small_config, tmp_path):
    settings = ["model=lcr2s", "model.teacher.source=batch", "dataset.sampler=identity_balanced"]
    with pytest.raises(ValueError, match=r"pairs_per_id: expected at least 2 .*, got 1"):
        train(small_config(tmp_path, *settings, "dataset.pairs_per_id=1"))
    with pytest.raises(ValueError, match=r"sampler: expected identity_balanced .*, got shuffled"):
        train(small_config(tmp_path, *settings[:2]))


def test_joint_training_takes_no_trained_teacher(lcr2s_run, small_config, tmp_path):
    given = f"teaching.checkpoint={lcr2s_run[0] / 'teacher' / 'teacher.ckpt'}"
    with pytest.raises(ValueError, match=r"checkpoint=null with model\.joint=true"):
        train(small_config(tmp_path, "model=lcr2s", "model.joint=true", given))


def test_runs_that_differ_in_the_student_only_share_a_teacher(small_config, tmp_path, capsys):
    shared = tmp_path / "teachers"
    settings = ["model=lcr2s", "max_epochs=1", f"teaching.shared_dir={shared}"]
    for number, change in enumerate(
        (
            "model.feature_weight=1.0",
            "model.feature_weight=2.0",
            "model.teacher.support_dropout=0.0",
        )
    ):
        train(small_config(tmp_path / str(number), *settings, change))
        assert not (tmp_path / str(number) / "teacher").exists()
    assert len(list(shared.glob("*/teacher.ckpt"))) == 2
    assert capsys.readouterr().out.count("complete already") == 1


@pytest.mark.parametrize("content", [b"", b"no teacher", b"\x80\x04cos\nsystem\n."])
def test_a_broken_teacher_is_refused_by_name(small_config, tmp_path, content):
    given = tmp_path / "teacher.ckpt"
    given.write_bytes(content)
    with pytest.raises(ValueError, match=r"teacher\.ckpt: expected the weights of a training run"):
        train(small_config(tmp_path / "run", "model=lcr2s", f"teaching.checkpoint={given}"))


@pytest.mark.slow
def test_a_kept_teacher_that_is_damaged_is_trained_again(small_config, tmp_path):
    settings = ["model=lcr2s", "max_epochs=1", "ckpt_path=null"]
    metrics = train(small_config(tmp_path, *settings))
    kept = tmp_path / "teacher" / "teacher.ckpt"
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.warns(UserWarning, match=r"teacher\.ckpt: .*damaged.*; the teacher is trained ag"):
        assert train(small_config(tmp_path, *settings)) == metrics
    assert sorted(path.name for path in (tmp_path / "teacher" / "checkpoints").iterdir()) == []
