"""Every config composes and instantiates; a file that no test reaches is a failure."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tireid import launch

CONF = Path(launch.conf_dir())
GROUPS = sorted(p.name for p in CONF.iterdir() if p.is_dir())
CHOICES = [(path.parent.name, path.stem) for path in sorted(CONF.glob("*/*.yaml"))]
OFFLINE = ["image_encoder.pretrained=false", "text_encoder.pretrained=false"]


def test_the_walk_reaches_every_file():
    primary = {path.name for path in CONF.glob("*.yaml")}
    assert primary == {"train.yaml", "evaluate.yaml", "convert.yaml", "export.yaml"}
    assert len(CHOICES) + len(primary) == len(list(CONF.rglob("*.yaml")))
    assert {"model", "image_encoder", "text_encoder", "dataset", "recipe"} <= set(GROUPS)


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_choice_composes_and_resolves(compose_config, tmp_path, group, choice):
    cfg = compose_config(f"{group}={choice}", f"paths.output_dir={tmp_path}", *OFFLINE)
    resolved = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert resolved["task"] == "train"


@pytest.mark.parametrize("choice", [c for g, c in CHOICES if g == "image_encoder"])
def test_image_encoder_fits_every_method(compose_config, tmp_path, choice):
    cfg = compose_config(f"image_encoder={choice}", f"paths.output_dir={tmp_path}", *OFFLINE)
    with torch.device("meta"):
        model = launch.build_model(cfg, launch.build_encoders(cfg), 7)
    assert model.classifier_weight.shape[1] == 7


@pytest.mark.parametrize("choice", [c for g, c in CHOICES if g == "text_encoder"])
@pytest.mark.parametrize("method", [c for g, c in CHOICES if g == "model"])
def test_text_encoder_fits_every_method(compose_config, tmp_path, choice, method):
    cfg = compose_config(
        f"model={method}", f"text_encoder={choice}", f"paths.output_dir={tmp_path}", *OFFLINE
    )
    with torch.device("meta"):
        model = launch.build_model(cfg, launch.build_encoders(cfg), 7)
    grouped = [p for group in model.parameter_groups().values() for p in group]
    assert len(grouped) == len(list(model.parameters()))
    assert set(model.parameter_groups()) <= set(cfg.recipe.learning_rates)


@pytest.mark.parametrize("choice", [c for g, c in CHOICES if g == "dataset"])
def test_dataset_instantiates_without_reading(compose_config, tmp_path, choice):
    cfg = compose_config(f"dataset={choice}", f"paths.output_dir={tmp_path}", *OFFLINE)
    datamodule = launch.build_datamodule(cfg)
    assert datamodule.name == choice
    assert datamodule.batch_size == cfg.batch_size


@pytest.mark.parametrize("choice", [c for g, c in CHOICES if g == "recipe"])
def test_recipe_gives_an_optimiser_and_a_schedule(compose_config, tmp_path, choice):
    cfg = compose_config(f"recipe={choice}", f"paths.output_dir={tmp_path}")
    recipe = instantiate(cfg.recipe, _convert_="all")
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = recipe["optimizer"]([{"params": [parameter], "lr": 0.1}])
    assert "scheduler" in recipe["schedule"](optimizer, total_steps=10)


@pytest.mark.parametrize("choice", [c for g, c in CHOICES if g == "callbacks"])
def test_callbacks_instantiate(compose_config, tmp_path, choice):
    cfg = compose_config(f"callbacks={choice}", f"paths.output_dir={tmp_path}")
    assert len(instantiate(cfg.callbacks, _convert_="all")) == len(cfg.callbacks)


@pytest.mark.parametrize("choice", ["cpu", "auto"])
def test_trainer_instantiates(compose_config, tmp_path, choice):
    cfg = compose_config(f"trainer={choice}", f"paths.output_dir={tmp_path}")
    trainer = launch.build_trainer(cfg, [], [])
    assert trainer.max_epochs == cfg.max_epochs


@pytest.mark.parametrize("choice", [c for g, c in CHOICES if g == "experiment"])
def test_experiment_says_what_is_published_and_what_is_expected(compose_config, tmp_path, choice):
    cfg = compose_config(f"experiment={choice}", f"paths.output_dir={tmp_path}", *OFFLINE)
    assert choice.endswith(cfg.dataset.name)
    assert all(0 < value < 100 for value in cfg.paper.values())
    text = (CONF / "experiment" / f"{choice}.yaml").read_text()
    assert f"experiment={choice}" in text
    if cfg.expected is None:
        assert "expected: null # " in text  # with the reason
    with torch.device("meta"):
        launch.build_model(cfg, launch.build_encoders(cfg), 7)


def test_the_official_presets_differ_in_what_they_name(compose_config):
    changed = compose_config("model=lgur_official", "recipe=lgur_official")
    plain = compose_config("model=lgur", "recipe=lgur")
    assert changed.model.ranking.columns == changed.recipe.schedule.stepping == "official"
    assert plain.model.ranking.columns == plain.recipe.schedule.stepping == "corrected"
    plain.model.ranking.columns = plain.recipe.schedule.stepping = "official"
    assert changed.model == plain.model
    assert changed.recipe == plain.recipe


def test_the_embedded_set_brings_small_encoders_and_the_command_line_wins(compose_config):
    assert compose_config().image_encoder.pretrained is False
    assert compose_config().batch_size == compose_config("recipe=scratch").recipe.batch_size
    assert isinstance(compose_config("dataset=cuhk_pedes").image_encoder.pretrained, str)
    changed = compose_config("image_encoder=deit_small", "recipe=lgur", "batch_size=3")
    assert isinstance(changed.image_encoder.pretrained, str)
    assert changed.recipe.max_epochs == 60
    assert changed.batch_size == 3
