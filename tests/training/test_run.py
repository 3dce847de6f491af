"""The entry points on a few synthetic identities: what a run leaves, and what bad input says."""

import json

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from tireid.training.run import train

METRICS = ["R1", "R5", "R10", "mAP", "mAP_trapezoid", "mINP"]


def test_run_folder_holds_everything(lgur_run):
    folder, metrics = lgur_run
    names = {path.name for path in folder.iterdir()}
    assert {
        "config.yaml",
        "metrics.json",
        "metrics.csv",
        "curves.png",
        "gallery_test.png",
        "queries_test.npz",
        "tokenizer",
        "checkpoints",
    } <= names
    record = json.loads((folder / "metrics.json").read_text())
    assert record["metrics"] == metrics
    assert record["finished"] is True
    assert record["seed"] == 1
    assert record["selection"] == "val"
    assert record["epochs"] == 2
    assert record["images_per_second"] > 0
    assert record["versions"]["torch"] == torch.__version__
    for split in ("val", "test"):
        for name in METRICS:
            assert 0 <= metrics[f"{split}/{name}"] <= 100
            assert 0 <= metrics[f"{split}/i2t_{name}"] <= 100
        assert f"{split}/R1_wm" in metrics


def test_the_saved_config_is_the_composed_one_on_one_page(lgur_run, small_config):
    """As `--cfg job --resolve` shows it, in the same order; training changes none of it."""
    folder, _ = lgur_run
    cfg = small_config(folder, "model=lgur")
    assert (folder / "config.yaml").read_text() == OmegaConf.to_yaml(cfg, resolve=True)


def test_the_tested_checkpoint_is_the_best_on_validation(lgur_run):
    folder, metrics = lgur_run
    record = json.loads((folder / "metrics.json").read_text())
    best = max(found["val/R1"] for found in record["validations"])
    assert metrics["val/R1"] == best
    assert f"R1_{best:.2f}" in record["tested_checkpoint"]


def test_the_last_checkpoint_is_the_last_epochs_also_when_an_earlier_one_is_best(
    small_config, compose_config, tmp_path
):
    """Learning is switched off after the first epoch, so that the best is an earlier one."""
    from tireid.training.evaluate import evaluate

    metrics = train(
        small_config(
            tmp_path,
            "model=baseline",
            "selection=last",
            "max_epochs=3",
            "recipe.schedule._target_=tireid.methods.schedules.multistep",
            "~recipe.schedule.warmup_fraction",
            "+recipe.schedule.milestones=[1]",
            "+recipe.schedule.gamma=0.0",
        )
    )
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert record["tested_checkpoint"] == "last.ckpt"
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 2
    (best,) = (tmp_path / "checkpoints").glob("epoch*.ckpt")
    assert metrics["val/R1"] == record["validations"][-1]["val/R1"]
    again = evaluate(compose_config(f"run={tmp_path}", "accelerator=cpu", name="evaluate"))
    assert again["test/R1"] == metrics["test/R1"]
    assert torch.load(best, weights_only=True)["epoch"] <= 2


def test_callbacks_can_be_dropped(small_config, tmp_path):
    metrics = train(small_config(tmp_path, "model=baseline", "max_epochs=1", "~callbacks.record"))
    assert 0 <= metrics["test/R1"] <= 100
    assert not (tmp_path / "metrics.json").exists()


def test_without_a_validation_split_the_last_epoch_is_tested(small_config, tmp_path):
    overrides = ["model=baseline", "max_epochs=1", "dataset.read.num_val_ids=0"]
    with pytest.raises(ValueError, match="set selection=last"):
        train(small_config(tmp_path / "a", *overrides))
    metrics = train(small_config(tmp_path / "b", *overrides, "selection=last"))
    assert 0 <= metrics["test/R1"] <= 100
    assert not any(name.startswith("val/") for name in metrics)


def test_a_missing_test_split_is_found_before_training(small_config, tmp_path):
    with pytest.raises(ValueError, match="'test'"):
        train(small_config(tmp_path, "dataset.read.num_test_ids=0"))
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    "caption", ["a tee with a $^$ print", "a shirt reading $\\alpha{$", "\u4e00\u4e2a\u4eba"]
)
def test_any_caption_can_be_drawn(tmp_path, caption):
    from tireid.callbacks.result_gallery import GalleryRow, draw_gallery

    Image.new("RGB", (20, 50), "red").save(tmp_path / "a.png")
    row = GalleryRow(
        caption, tmp_path / "a.png", [tmp_path / "a.png"] * 2, [0.9, 0.1], [True, False]
    )
    draw_gallery([row], tmp_path / "gallery.png", "title")
    assert (tmp_path / "gallery.png").exists()


def test_pictures_are_pictures(lgur_run):
    folder, _ = lgur_run
    for name in ("curves.png", "gallery_test.png"):
        with Image.open(folder / name) as picture:
            picture.load()
            assert min(picture.size) > 200
            assert len(picture.convert("RGB").getcolors(2**24)) > 50


def test_checkpoint_loads_with_weights_only(lgur_run):
    folder, _ = lgur_run
    checkpoints = list((folder / "checkpoints").glob("*.ckpt"))
    assert sorted(path.name[:5] for path in checkpoints) == ["epoch", "last."]
    for path in checkpoints:
        state = torch.load(path, weights_only=True)
        assert "head.dictionary" in state["state_dict"]


def test_peak_memory_is_logged_once_an_epoch(lgur_run):
    from tireid.runs.log import read_columns

    folder, _ = lgur_run
    logged = read_columns(folder / "metrics.csv")["train/peak_memory_mib"]
    peaks = [value for _, value in logged]
    record = json.loads((folder / "metrics.json").read_text())
    assert len(peaks) == record["epochs"]
    assert 50 < peaks[0] <= peaks[1] <= record["peak_memory_mib"] + 0.1


def test_an_epoch_shorter_than_the_interval_of_the_log_is_logged(lgur_run):
    """Four steps an epoch, and a row of the log every ten."""
    from tireid.runs.log import read_columns

    logged = read_columns(lgur_run[0] / "metrics.csv")
    for name in ("train/loss", "train/lr_head"):
        assert [step for step, _ in logged[name]] == [3, 7]


def test_tensorboard_has_what_the_table_of_the_run_has(small_config, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tireid.runs.log import read_columns

    train(small_config(tmp_path, "model=baseline", "max_epochs=1", "logger=tensorboard"))
    kept = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for name, column in read_columns(tmp_path / "metrics.csv").items():
        found = {one.step: one.value for one in kept.Scalars(name)}
        assert found == pytest.approx(dict(column), rel=1e-5), name
    assert not list(tmp_path.glob("wandb*"))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lgur", "baseline"])
def test_bfloat16_trains_and_ranks_in_float32(small_config, tmp_path, monkeypatch, method):
    from tireid.methods.base import RetrievalModule

    embed, seen = RetrievalModule.embed, []

    def recorded(self, batch):
        embeddings = embed(self, batch)
        seen.append((torch.is_autocast_enabled("cpu"), embeddings))
        return embeddings

    monkeypatch.setattr(RetrievalModule, "embed", recorded)
    overrides = [f"model={method}", "max_epochs=1", "trainer.precision=bf16-mixed"]
    metrics = train(small_config(tmp_path, *overrides))
    assert 0 <= metrics["test/R1"] <= 100
    assert json.loads((tmp_path / "metrics.json").read_text())["precision"] == "bf16-mixed"
    weights = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, weight in weights.items():
        assert torch.isfinite(weight).all(), name
        assert weight.dtype in (torch.float32, torch.int64), name
    assert seen
    for autocast, embeddings in seen:
        assert autocast
        assert embeddings.dtype == torch.float32
        norms = embeddings.norm(dim=1)
        torch.testing.assert_close(norms, torch.ones_like(norms), atol=1e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lgur", "baseline"])
def test_same_seed_same_figures_to_the_last_bit(small_config, tmp_path, method):
    results, weights = [], []
    for number in range(2):
        folder = tmp_path / str(number)
        results.append(train(small_config(folder, f"model={method}", "seed=5")))
        checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        weights.append(checkpoint["state_dict"])
    assert results[0] == results[1]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("method", ["lgur", "baseline"])
def test_learns_eight_people_by_heart(small_config, tmp_path, method):
    """Trained and tested on the same people, a method must find them all."""
    from tireid.inference.build import build_datamodule, build_encoders, build_model
    from tireid.retrieval import evaluate_embeddings

    cfg = small_config(
        tmp_path,
        f"model={method}",
        "max_epochs=40",
        "batch_size=16",
        "dataset.image_size=[96,32]",
        "dataset.flip_probability=0.0",
        "dataset.pad=0",
        "dataset.read.caption_detail=1.0",
        "selection=last",
    )
    train(cfg)
    model = build_model(cfg, build_encoders(cfg), 8)
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    model.load_state_dict(state)
    model.eval()
    datamodule = build_datamodule(cfg)
    datamodule.setup("fit")
    batches = list(datamodule.train_dataloader())
    with torch.no_grad():
        images = torch.cat([model.encode_image(batch.images) for batch in batches])
        texts = torch.cat([model.encode_text(b.token_ids, b.valid) for b in batches])
    pids = torch.cat([batch.pid for batch in batches])
    assert evaluate_embeddings(texts, images, pids, pids)["R1"] == 100


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("batch_size=-1", "batch_size: expected an integer > 0, got -1"),
        ("max_epochs=0", "max_epochs: expected an integer > 0, got 0"),
        ("selection=train", "selection: expected one of val, last, test, got 'train'"),
        ("seed=-3", "seed: expected an integer from 0"),
        ("monitor=val/loss", "monitor: expected a metric of what is validated, one of val/R1"),
    ],
)
def test_bad_scalars_are_named(small_config, tmp_path, override, message):
    with pytest.raises(ValueError, match=message):
        train(small_config(tmp_path, override))


def test_selection_on_test_is_marked_wherever_it_is_shown(
    small_config, compose_config, tmp_path, capsys
):
    from tireid.training.evaluate import evaluate

    metrics = train(small_config(tmp_path, "model=baseline", "selection=test"))
    shown = capsys.readouterr().out
    assert "TEST split" in shown
    assert "test R@1" in shown
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert record["selection"] == "test"
    best = max(found["test/R1"] for found in record["validations"])
    assert metrics["test/R1"] == best
    assert f"R1_{best:.2f}" in record["tested_checkpoint"]
    assert not any(name.startswith("val/") for name in metrics)
    again = evaluate(compose_config(f"run={tmp_path}", "accelerator=cpu", name="evaluate"))
    assert again["test/R1"] == best
    assert "TEST split" in capsys.readouterr().out
    reds = [
        r for _, (r, g, b) in _colours(tmp_path / "curves.png") if r > 200 and g < 60 and b < 60
    ]
    assert len(reds) > 0


def _colours(path):
    with Image.open(path) as picture:
        return picture.convert("RGB").getcolors(2**24)


@pytest.mark.parametrize("mode", ["never", "official", "always"])
def test_dropout_of_a_frozen_bert_survives_the_trainers_modes(small_config, tmp_path, mode):
    """The trainer restores every module's mode after a validation."""
    from lightning.pytorch.callbacks import Callback

    from tireid.console import silence_expected_warnings
    from tireid.inference.build import build_datamodule, build_encoders, build_model
    from tireid.training.build import build_trainer
    from tireid.training.checks import check_scalars
    from tireid.training.lightning_module import LightningMethod

    seen = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append(
                (trainer.current_epoch, pl_module.method.text_encoder.embedding.bert.training)
            )

    cfg = small_config(
        tmp_path,
        "model=baseline",
        "text_encoder=bert_bilstm_tiny",
        "text_encoder.module.embedding.frozen=true",
        f"text_encoder.module.embedding.frozen_dropout={mode}",
    )
    silence_expected_warnings()
    check_scalars(cfg)
    datamodule = build_datamodule(cfg)
    retrieval = instantiate(cfg.callbacks.retrieval)
    trainer = build_trainer(cfg, [Watch(), retrieval], [])
    datamodule.trainer = trainer
    datamodule.prepare_data()
    datamodule.setup("fit")
    model = build_model(cfg, build_encoders(cfg), datamodule.num_train_pids)
    trainer.fit(LightningMethod(model), datamodule)
    active = {"never": (False, False), "official": (False, True), "always": (True, True)}[mode]
    assert {(epoch, training) for epoch, training in seen} == set(enumerate(active))


def test_a_text_length_beyond_the_encoders_positions_is_refused_before_training(
    small_config, tmp_path
):
    longer = ("text_encoder=clip_text_tiny", "text_encoder.module.max_positions=63")
    with pytest.raises(ValueError, match=r"max_length: expected at most 63, .* got 64; set"):
        train(small_config(tmp_path, "model=baseline", *longer))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset.pairs_per_id=2"], r"pairs_per_id: does nothing with dataset\.sampler=shuffled"),
        (
            ["model.identity_weight=0", "model.label_smoothing=0.1"],
            r"model\.label_smoothing: does nothing with model\.identity_weight=0, got 0\.1",
        ),
        (["image_encoder.module.pool=avg"], r"pool: does nothing with the method LGUR, got avg"),
        (
            ["model=lcr2s", "model.teacher.supports.exclude_same_image_text=false"],
            r"does nothing with model\.teacher\.source=memory, .* or .*source=dataset",
        ),
        (
            ["model=lcr2s_teacher", "model.supports.short=pad"],
            r"model\.supports\.short: does nothing with model\.source=memory",
        ),
        (
            ["model=lcr2s_plain", "model.teacher.memory.capacity=7"],
            r"memory\.capacity: does nothing with model\.teacher\.source=dataset",
        ),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(small_config, tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        train(small_config(tmp_path, *overrides))


@pytest.fixture
def _precision():
    """Leave the process's precision as it was."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.usefixtures("_precision")
@pytest.mark.parametrize(
    ("recipe", "allowed"),
    [("lgur", True), ("lcr2s", True), ("scratch", True), ("lgur_official", False)],
)
def test_the_recipe_decides_on_tensorfloat(small_config, tmp_path, monkeypatch, recipe, allowed):
    """Wherever the run is evaluated later, too; a run of an earlier version allowed it."""
    from tireid.inference.saved_config import evaluation_config
    from tireid.runs.settings import difference
    from tireid.training import run

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run.L, "seed_everything", stop)
    cfg = small_config(tmp_path, "model=baseline", f"recipe={recipe}")
    with pytest.raises(KeyboardInterrupt):
        train(cfg)
    assert torch.get_float32_matmul_precision() == ("high" if allowed else "highest")
    assert torch.backends.cudnn.allow_tf32 is allowed
    settings = OmegaConf.to_container(cfg, resolve=True)
    OmegaConf.save(settings, tmp_path / "config.yaml")
    assert evaluation_config(tmp_path).tf32 is allowed
    earlier = {name: value for name, value in settings.items() if name != "tf32"}
    earlier["recipe"] = {n: value for n, value in settings["recipe"].items() if n != "tf32"}
    OmegaConf.save(earlier, tmp_path / "config.yaml")
    assert bool(difference(tmp_path, settings)) is not allowed
