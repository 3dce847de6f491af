"""What a run logs to W&B, read back from its files; nothing is ever sent."""

import csv
import json
import os
import re
import warnings
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from tireid.callbacks.query_images import interesting_queries
from tireid.checkpoints import stop_signals
from tireid.inference.export import export
from tireid.retrieval.query_results import read_queries
from tireid.runs.weights import read_weights
from tireid.training.lightning_module import LightningMethod
from tireid.training.run import train

wandb = pytest.importorskip("wandb")

LOGGED = ["logger=auto", "trainer.log_every_n_steps=1"]


class KilledError(BaseException):
    """Stands for a kill: nobody catches it."""


@pytest.fixture(scope="module", autouse=True)
def _offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.delenv("WANDB_DATA_DIR", raising=False)
        yield


@pytest.fixture(scope="module")
def folder(small_config, tmp_path_factory):
    """Return the folder of a run that was logged."""
    folder = tmp_path_factory.mktemp("logged")
    (folder / ".hydra").mkdir()
    choices = {"sweep": "small_grid", "image_encoder": "resnet_tiny", "text_encoder": "bilstm_tiny"}
    content = {"hydra": {"runtime": {"choices": choices}}}
    (folder / ".hydra" / "hydra.yaml").write_text(json.dumps(content))
    (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(["model=lgur", "hydra.run.dir=x"]))
    train(small_config(folder, "model=lgur", "label=row", "seed=3", *LOGGED))
    return folder


@pytest.fixture(scope="module")
def run(folder, read_logged):
    return read_logged(folder)


@pytest.fixture(scope="module")
def record(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_a_run_is_named_grouped_and_tagged(run):
    assert run.run.name == "row resnet_tiny+bilstm_tiny synthetic seed3"
    assert (run.run.group, run.run.job_type, run.project) == ("small_grid", "train", "tireid")
    assert set(run.run.tags) == {"row", "resnet_tiny", "bilstm_tiny", "synthetic"}
    assert run.exit_code == 0
    assert len(run.folders) == 1


def test_every_setting_is_in_its_config(run, folder, record):
    settings = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    flat = {name: value for name, value in _leaves(settings) if not _is_path(name, value)}
    assert len(flat) > 150
    assert {name: run.config.get(name) for name in flat} == flat
    assert run.config["model._target_"] == "tireid.methods.lgur.Lgur"
    assert run.config["seed"] == 3
    assert run.config["overrides"] == ["model=lgur"]
    assert run.config["commit"] == record["commit"]
    assert run.config["dirty"] == record["dirty"]


def test_settings_lie_on_one_level_and_no_name_has_a_dot(run, folder):
    """wandb takes `a.b` for the b inside an a, so that no filter would find such a name."""
    settings = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    leaves = [leaf for leaf in _leaves(settings) if not _is_path(*leaf)]
    expected = {name.replace(".", "/"): value for name, value in leaves}
    assert {name: run.keys.get(name) for name in expected} == expected
    assert run.keys["model/_target_"] == "tireid.methods.lgur.Lgur"
    assert not [
        name for name, value in run.keys.items() if "." in name or (value and type(value) is dict)
    ]


def _is_path(name, value):
    return name.startswith("paths.") or str(value).startswith("/")


def _leaves(node, prefix=""):
    for name, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def test_every_logged_value_is_in_its_history(run, folder):
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = set(rows[0]) - {"step"}
    assert {
        "train/loss",
        "train/lr_image_encoder",
        "train/lr_text_encoder",
        "train/lr_head",
        "train/images_per_second",
        "train/peak_memory_mib",
        "val/R1",
        "val/i2t_mAP",
        "test/R1",
        "test/mINP",
    } <= names
    assert any(name.startswith("train/loss_id") for name in names)
    for name in names:
        expected = {int(row["step"]): float(row[name]) for row in rows if row[name]}
        assert dict(run.column(name)) == pytest.approx(expected), name
    assert len(run.column("train/loss")) == 8
    assert len(run.column("val/R1")) == len(run.column("train/images_per_second")) == 2
    assert len(run.column("test/R1")) == 1


def test_the_step_of_all_metrics_is_the_optimisers(run):
    assert run.definitions["*"]["step"] == "trainer/global_step"
    assert run.definitions["val/*"] == {"step": "trainer/global_step", "summary": "none"}


def test_the_summary_has_the_best_and_the_last_of_validation(run, record):
    validations = record["validations"]
    names = [name for name in validations[0] if name.startswith("val/")]
    assert len(names) >= 12
    for name in names:
        values = [found[name] for found in validations]
        assert run.summary[name] == pytest.approx(max(values))
        assert run.summary[f"last/{name}"] == pytest.approx(values[-1])
    tested = {name: value for name, value in record["metrics"].items() if name.startswith("test/")}
    assert {name: run.summary[name] for name in tested} == pytest.approx(tested)


def test_the_summary_has_what_the_run_cost(run, record):
    for name in ("images_per_second", "peak_memory_mib", "parameters", "steps", "epochs"):
        assert run.summary[name] == record[name]
    assert run.summary["seconds"]["training"] > 0


def test_similarities_are_counted_and_drawn(run, folder):
    results = read_queries(folder / "queries_test.npz")
    for name in ("positives", "negatives"):
        logged = run.summary[f"similarity/{name}"]
        assert logged["values"] == getattr(results, name).tolist()
        assert logged["bins"] == pytest.approx(results.edges.tolist())
    with Image.open(run.media(run.summary["similarity/spread"])) as picture:
        assert len(picture.convert("RGB").getcolors(2**24)) > 20


def test_images_of_the_run_folder_are_logged(run, folder):
    for name in ("curves", "gallery_test"):
        logged = run.media(run.summary[name])
        assert logged.read_bytes() == (folder / f"{name}.png").read_bytes()


def test_the_table_shows_queries_with_images_scores_and_ranks(run, folder, small_data):
    results = read_queries(folder / "queries_test.npz")
    columns, rows = run.table("queries")
    captions = [caption for one in small_data.records("test") for caption in one.captions]
    shown = interesting_queries(results, 8)
    assert [(row[0], row[1]) for row in rows] == [(one.kind, one.number) for one in shown]
    assert {one.kind for one in shown} == {"best hit", "worst miss", "at random"}
    for row in (dict(zip(columns, row, strict=True)) for row in rows):
        query = row["query"]
        assert row["caption"] == captions[query]
        assert row["first rank"] == results.first_rank[query]
        assert row["average precision"] == pytest.approx(results.values["mAP"][query])
        for rank in range(5):
            assert row[f"score {rank + 1}"] == pytest.approx(results.scores[query, rank])
            right = bool(results.right[query, rank])
            assert row[f"right {rank + 1}"] == ("\u2713" if right else "\u2715")
            path = small_data.records("test")[results.found[query, rank]].image_path
            assert _inner(row[f"rank {rank + 1}"]) == _pixels(path)
        own = small_data.records("test")[results.own[query]].image_path
        assert _inner(row["described"]) == _pixels(own)


def _inner(path):
    with Image.open(path) as picture:
        width, height = picture.size
        return picture.convert("RGB").crop((4, 4, width - 4, height - 4)).tobytes()


def _pixels(path):
    with Image.open(path) as picture:
        return picture.convert("RGB").tobytes()


def test_the_files_are_artifacts(run, folder, record):
    data, model, results = [one for one in run.artifacts if one.type != "run_table"]
    assert (data.name, data.type, data.is_used) == ("synthetic", "dataset", True)
    splits = json.loads(data.files["splits.json"].read_text())["splits"]
    assert {split: of["sha256"] for split, of in splits.items()} == record["data_sha256"]
    assert not any(one.is_used for one in (model, results))
    name = f"row-{run.config['encoders'].replace('+', '-')}-synthetic-{run.config['settings']}"
    assert (model.name, model.type) == (name, "model")
    assert set(model.aliases) == {"latest", "best", "seed3"}
    assert "best: the newest of which its checkpoint was the best on validation" in (
        model.description
    )
    assert model.metadata["metrics"] == pytest.approx(record["metrics"])
    assert model.files["model.safetensors"] == folder / "wandb" / "model.safetensors"  # no copy
    tested = read_weights(folder / "checkpoints" / record["tested_checkpoint"])
    weights = read_weights(model.files["model.safetensors"])
    assert weights.keys() < tested.keys()  # neither identity heads nor the optimiser's state
    assert all(torch.equal(value, tested[key]) for key, value in weights.items())
    assert not [key for key, value in run.config.items() if str(value).startswith("/")]
    for kept in ("metrics.json", "config.yaml", "tokenizer/tokenizer.json"):
        assert model.files[kept].read_bytes() == (folder / kept).read_bytes()
    assert (results.name, results.type) == (f"{name}-queries", "results")
    assert "seed3" in results.aliases
    assert read_queries(results.files["queries_test.npz"]).pids.tolist() == (
        read_queries(folder / "queries_test.npz").pids.tolist()
    )


def test_all_of_it_lies_in_the_run_folder(run, folder):
    for artifact in run.artifacts:
        assert all(path.is_relative_to(folder) for path in artifact.files.values())
    assert "WANDB_DATA_DIR" not in os.environ


def test_the_console_is_logged_and_the_changes_of_the_source_if_there_are_any(run, record):
    assert "test split, percent" in " ".join(run.console.split())
    assert ("diff.patch" in run.saved) == bool(record["dirty"])


def test_gradients_are_histograms_where_they_are_asked_for(small_config, tmp_path, read_logged):
    words = ["model=baseline", "max_epochs=1", "callbacks.wandb.log_gradients=3", *LOGGED]
    train(small_config(tmp_path, *words))
    logged = read_logged(tmp_path)
    names = {name for row in logged.history for name in row if name.startswith("gradients/")}
    assert any(name.startswith("gradients/image_encoder.") for name in names)
    for name in names:
        assert {step for step, _ in logged.column(name)} <= {0, 3}


def test_an_export_is_made_of_the_model_of_its_run(
    folder, run, compose_config, read_logged, tmp_path, monkeypatch
):
    words = [f"run={folder}", f"output={tmp_path / 'out'}", "wandb=true"]
    export(compose_config(*words, name="export"))
    (model,) = [one for one in run.artifacts if one.type == "model"]
    (parts,) = {file.parent for file in folder.glob("wandb/offline-run-*/run-*.wandb")} - set(
        run.folders
    )
    logged = read_logged(parts)
    assert (logged.run.job_type, logged.run.group) == ("export", "small_grid")
    used, made = logged.artifacts
    assert (used.name, used.digest, used.is_used) == (model.name, model.digest, True)
    assert (made.name, made.type, made.is_used) == (f"{model.name}-export", "export", False)
    assert "model.safetensors" in made.files


def test_one_line_says_where_the_run_is(small_config, tmp_path, capfd, monkeypatch, read_logged):
    monkeypatch.chdir(tmp_path)
    short = ["model=baseline", "max_epochs=1", "callbacks.wandb.checkpoint=false"]
    train(small_config(tmp_path / "run", *short, "label='a: b/c'", *LOGGED))
    said = "".join(capfd.readouterr())
    lines = [line for line in said.splitlines() if line.startswith("wandb")]
    (part,) = read_logged(tmp_path / "run").folders
    assert lines == [f"wandb: kept offline; to upload: wandb sync {part.relative_to(tmp_path)}"]
    (model,) = [one for one in read_logged(tmp_path / "run").artifacts if one.type == "model"]
    assert re.fullmatch(r"a-b-c-\S+-synthetic-[0-9a-f]{8}", model.name)
    assert not [name for name in model.files if name.endswith(".ckpt")]


@pytest.mark.slow
def test_two_runs_of_one_process_are_two(small_config, tmp_path, read_logged):
    short = ["model=baseline", "max_epochs=1", *LOGGED]
    for seed in (1, 2):
        train(small_config(tmp_path / str(seed), *short, f"seed={seed}"))
    first, second = (read_logged(tmp_path / name) for name in ("1", "2"))
    assert first.run.id != second.run.id
    assert [first.config["seed"], second.config["seed"]] == [1, 2]
    for one in (first, second):
        assert [step for step, _ in one.column("train/loss")] == [0, 1, 2, 3]
        assert one.exit_code == 0
    assert first.column("train/loss") != second.column("train/loss")


@pytest.mark.slow
def test_a_teacher_has_a_run_of_its_own_that_ends_before_its_students(
    small_config, tmp_path, read_logged
):
    settings = ["model=lcr2s", "model.teacher.source=memory", "teaching.max_epochs=1"]
    train(small_config(tmp_path, *settings, "max_epochs=1", "label=row", *LOGGED))
    teacher, student = read_logged(tmp_path / "teacher"), read_logged(tmp_path)
    assert teacher.run.id != student.run.id
    assert (teacher.run.job_type, student.run.job_type) == ("teacher", "train")
    assert teacher.run.group == student.run.group == "synthetic"
    assert teacher.run.name == "row teacher ResNetEncoder+BiLstmEncoder synthetic seed1"
    assert "train/loss_distil_features" in student.summary
    assert "train/loss_distil_features" not in teacher.summary
    assert teacher.exit_code == student.exit_code == 0
    assert teacher.history[-1]["_timestamp"] < student.history[0]["_timestamp"]
    (made,) = [one for one in teacher.artifacts if one.type == "model"]
    (used,) = [one for one in student.artifacts if one.type == "model" and one.is_used]
    assert (used.name, used.digest) == (made.name, made.digest)


@pytest.mark.slow
def test_a_run_that_is_killed_and_continued_is_one(
    small_config, tmp_path, monkeypatch, read_logged
):
    settings = ["model=baseline", "callbacks.last.every_n_train_steps=1", *LOGGED]
    train(small_config(tmp_path / "unbroken", *settings))
    total_loss = LightningMethod.total_loss

    def dying(self, terms, batch_size):
        if self.global_step == 6:
            raise KilledError
        return total_loss(self, terms, batch_size)

    with monkeypatch.context() as patch:
        patch.setattr(LightningMethod, "total_loss", dying)
        with pytest.raises(KilledError):
            train(small_config(tmp_path / "run", *settings))
    before = read_logged(tmp_path / "run")
    assert before.exit_code == 1
    train(small_config(tmp_path / "run", *settings))
    files = (tmp_path / "run").glob("wandb/offline-run-*/run-*.wandb")
    assert len({file.name for file in files}) == 1
    run = read_logged(tmp_path / "run")
    unbroken = read_logged(tmp_path / "unbroken")
    assert len(run.folders) == 2
    assert run.exit_code == 0
    for name in ("train/loss", "val/R1", "test/mAP", "train/lr_head"):
        assert run.column(name) == unbroken.column(name)
    counts = [row["_step"] for row in run.history]
    assert counts == sorted(set(counts))  # so that both parts can be uploaded
    best = {name: value for name, value in unbroken.summary.items() if "val/" in name}
    assert {name: run.summary[name] for name in best} == best


def test_a_run_that_is_asked_to_stop_ends_with_its_exit_code(
    small_config, tmp_path, monkeypatch, read_logged
):
    total_loss = LightningMethod.total_loss

    def stopped(self, terms, batch_size):
        if self.global_step == 2:
            stop_signals.stop("nothing")
        return total_loss(self, terms, batch_size)

    monkeypatch.setattr(LightningMethod, "total_loss", stopped)
    with pytest.raises(stop_signals.Stopped):
        train(small_config(tmp_path, "model=baseline", *LOGGED))
    assert read_logged(tmp_path).exit_code == stop_signals.EXIT_CODE
    stop_signals.reset()


def test_whatever_fails_in_wandb_is_said_once_and_training_goes_on(
    small_config, tmp_path, monkeypatch
):
    def full(self, *_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(wandb.Run, "log", full)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        metrics = train(small_config(tmp_path, "model=baseline", "max_epochs=1", *LOGGED))
    assert 0 <= metrics["test/R1"] <= 100
    (warning,) = [str(one.message) for one in said if "wandb" in str(one.message)]
    assert "No space left on device" in warning
    assert (tmp_path / "metrics.csv").is_file()


@pytest.mark.slow
def test_a_run_that_cannot_begin_trains_all_the_same(small_config, tmp_path, monkeypatch):
    def broken(**_):
        raise RuntimeError("no service")

    monkeypatch.setattr(wandb, "init", broken)
    with pytest.warns(UserWarning, match="no service"):
        metrics = train(small_config(tmp_path, "model=baseline", "max_epochs=1", *LOGGED))
    assert 0 <= metrics["test/R1"] <= 100


def test_a_disabled_one_leaves_nothing(small_config, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    train(small_config(tmp_path, "model=baseline", "max_epochs=1", *LOGGED))
    assert not (tmp_path / "wandb").exists()
    assert "wandb" not in "".join(capfd.readouterr())


@pytest.mark.slow
@pytest.mark.parametrize(("pictures", "shown"), [("auto", False), (True, True)])
def test_images_of_real_people_are_not_logged_unasked(
    small_config, tmp_path, capfd, pictures, shown, read_logged
):
    """The synthetic data set under the name of a real one."""
    overrides = ["model=baseline", "max_epochs=1", "dataset.name=cuhk_pedes", *LOGGED]
    train(small_config(tmp_path, *overrides, f"callbacks.wandb.pictures={pictures}"))
    said = "".join(capfd.readouterr())
    assert ("no images of cuhk_pedes are logged" in said) == (pictures == "auto")
    run = read_logged(tmp_path)
    columns, rows = run.table("queries")
    assert ("described" in columns) == ("rank 1" in columns) == shown
    assert ("gallery_test" in run.summary) == shown
    assert "curves" in run.summary
    assert len(rows) > 0
    if not shown:
        files = [path for part in run.folders for path in part.rglob("*.png")]
        assert {path.name.split("_")[0] for path in files} == {"curves", "spread"}


def test_explanations_can_be_added_to_the_run(folder, run, compose_config, read_logged):
    from tireid.explanations.explain import explain

    overrides = [f"run={folder}", "queries=2", "images=2", "atoms=2", "wandb=true"]
    written = explain(compose_config(*overrides, "accelerator=cpu", name="explain"))
    again = read_logged(folder)
    assert again.run.id == run.run.id
    assert len(again.folders) == len(run.folders) + 1
    assert (again.run.name, again.run.group) == (run.run.name, run.run.group)
    assert again.config == run.config
    for path in written:
        name = str(path.relative_to(folder).with_suffix(""))
        assert again.media(again.summary[name]).read_bytes() == path.read_bytes()
    assert again.summary["test/R1"] == run.summary["test/R1"]


def test_without_a_run_explanations_say_so(copied_run, compose_config, capfd):
    from tireid.explanations.explain import explain

    overrides = [f"run={copied_run}", "queries=1", "images=1", "atoms=1", "wandb=true"]
    written = explain(compose_config(*overrides, "accelerator=cpu", name="explain"))
    assert "no run to add the images to" in capfd.readouterr().out
    assert written
    assert not (Path(copied_run) / "wandb").exists()
