"""A checkpoint on other data: evaluated there, and a start for training there."""

import json

import pytest
import torch

from tireid.data.tokenizers import load_tokenizer
from tireid.inference.build import build_encoders, build_model
from tireid.training import transfer
from tireid.training.evaluate import evaluate
from tireid.training.run import train
from tireid.training.teacher import check_teaching
from tireid.world import WorldSettings, ensure_world


@pytest.fixture(scope="module")
def other_data(tmp_path_factory):
    """Return a function to the overrides for other people, in the files of another data set."""

    def written(layout):
        people = {"num_train_ids": 6, "num_val_ids": 3, "num_test_ids": 5, "images_per_id": 3}
        world = WorldSettings(layout=layout, seed=7, **people)
        root = ensure_world(tmp_path_factory.mktemp("other"), world, progress=False)
        return [f"dataset={layout}", f"dataset.root={root}"]

    return written


def weights_of(run):
    record = json.loads((run / "metrics.json").read_text())
    file = run / "checkpoints" / record["tested_checkpoint"]
    return torch.load(file, weights_only=True)["state_dict"]


@pytest.mark.filterwarnings("ignore:rstpreid, .*expected")  # counts of the real set
def test_a_checkpoint_is_evaluated_on_another_data_set(
    lgur_run, copied_run, compose_config, cache_dir, other_data, capsys
):
    _, metrics = lgur_run
    words = [f"run={copied_run}", "accelerator=cpu", f"paths.cache_dir={cache_dir}"]
    found = evaluate(compose_config(*words, *other_data("rstpreid"), name="evaluate"))
    assert "test split of rstpreid, trained on synthetic" in capsys.readouterr().out
    (file,) = copied_run.glob("evaluation_rstpreid_test_*.json")
    record = json.loads(file.read_text())
    assert record["metrics"] == found
    assert (record["dataset"], record["trained_on"]) == ("rstpreid", "synthetic")
    # The run's own files, named as another data set, give the run's figures again.
    own = ["dataset.read.num_train_ids=8", "dataset.read.num_val_ids=3"]
    own += ["dataset.read.num_test_ids=4", "dataset.read.images_per_id=2", "dataset.decode=fast"]
    again = evaluate(compose_config(*words, "dataset=synthetic", *own, name="evaluate"))
    assert again == {name: v for name, v in metrics.items() if name.startswith("test/")}


def test_another_data_set_has_its_own_root(lgur_run, compose_config):
    folder, _ = lgur_run
    words = [f"run={folder}", "dataset=rstpreid", "dataset_root=somewhere"]
    with pytest.raises(ValueError, match=r"set dataset\.root="):
        evaluate(compose_config(*words, name="evaluate"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:icfg_pedes, .*expected")
def test_training_starts_from_the_weights_of_another_data_set(
    lgur_run, compose_config, cache_dir, other_data, tmp_path, capsys
):
    """Without learning, the weights and the vocabulary stay; only the identities' heads are new."""
    folder, _ = lgur_run
    cfg = compose_config(
        "model=lgur",
        f"init_weights={folder}",
        *other_data("icfg_pedes"),
        "image_encoder=resnet_tiny",
        "text_encoder=bilstm_tiny",
        "recipe=scratch",
        "recipe.learning_rates={image_encoder:0.0,text_encoder:0.0,head:0.0,classifier:0.0}",
        "dataset.read.val_fraction=0.34",
        "dataset.image_size=[48,16]",
        "dataset.num_workers=0",
        "batch_size=8",
        "max_epochs=1",
        "selection=last",
        "trainer=cpu",
        f"paths.cache_dir={cache_dir}",
        f"paths.output_dir={tmp_path}",
    )
    train(cfg)
    shown = " ".join(capsys.readouterr().out.split())
    assert "LGUR trained on synthetic" in shown
    assert "left out, the heads of the identities it was trained on: classifier_" in shown
    before, after = weights_of(folder), weights_of(tmp_path)
    assert before["classifier_weight"].shape[1] != after["classifier_weight"].shape[1]
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    for name, weight in before.items():
        if not name.startswith("classifier") and not name.endswith(statistics):
            assert torch.equal(after[name], weight), name
    caption = ["a man in a red coat holding an umbrella"]
    ids = load_tokenizer(folder / "tokenizer")(caption)
    assert load_tokenizer(tmp_path / "tokenizer")(caption) == ids
    again = evaluate(compose_config(f"run={tmp_path}", "accelerator=cpu", name="evaluate"))
    assert again == {
        name: value
        for name, value in json.loads((tmp_path / "metrics.json").read_text())["metrics"].items()
        if name.startswith("test/")
    }


def test_what_does_not_fit_is_named(lgur_run, undrawn_config, tmp_path, capsys):
    folder, _ = lgur_run
    start = f"init_weights={folder}"
    cases = {
        ("image_encoder=vit_tiny",): r"does not fit this LGUR: .*image_encoder\.",
        ("model=baseline",): r"LGUR trained on synthetic, does not fit this Baseline: .*left over",
        ("text_encoder.tokenizer.max_length=32",): r"tokenizer\.max_length: expected 64",
        ("text_encoder.tokenizer.vocab_size=300",): r"tokenizer\.vocab_size: expected 2000",
        ("image_encoder.mean=[0.1,0.1,0.1]",): r"image_encoder\.mean: expected \[0\.5",
    }
    for number, (overrides, message) in enumerate(cases.items()):
        with pytest.raises(ValueError, match=message):
            train(undrawn_config(tmp_path / str(number), "model=lgur", start, *overrides))
    with pytest.raises(FileNotFoundError, match="expected an exported folder"):
        train(undrawn_config(tmp_path / "none", "init_weights=nowhere"))


def test_a_student_that_starts_from_its_teacher_takes_no_other_weights(undrawn_config, tmp_path):
    cfg = undrawn_config(tmp_path, "model=lcr2s", "model.init_from_teacher=true", "init_weights=x")
    with pytest.raises(ValueError, match=r"expected null with model\.init_from_teacher=true"):
        check_teaching(cfg)


def test_an_export_is_a_start_too(lgur_run, undrawn_config, compose_config, tmp_path):
    from tireid.inference.export import export

    folder, _ = lgur_run
    export(compose_config(f"run={folder}", f"output={tmp_path / 'exported'}", name="export"))
    cfg = undrawn_config(tmp_path / "run", "model=lgur", f"init_weights={tmp_path / 'exported'}")
    tokenizer = transfer.source_tokenizer(cfg)
    assert tokenizer.vocab_size == 2000
    model = build_model(cfg, build_encoders(cfg), 5)
    transfer.init_weights(cfg.init_weights, model)
    assert torch.equal(model.head.dictionary, weights_of(folder)["head.dictionary"])
