"""Every config composes and instantiates; a file that no test reaches is a failure."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException, InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf, open_dict

from tireid.comparison.published import read_published
from tireid.files import conf_dir
from tireid.inference.build import build_datamodule, build_encoders, build_model
from tireid.methods.optimization import optimizer_of
from tireid.training.build import build_trainer
from tireid.training.checks import check_scalars
from tireid.training.signatures import check_signatures
from tireid.training.teacher import check_teaching

CONF = Path(conf_dir())
GROUPS = sorted(p.name for p in CONF.iterdir() if p.is_dir())
CHOICES = [
    (str(path.parent.relative_to(CONF)), path.stem)
    for path in sorted(CONF.rglob("*.yaml"))
    if path.parent != CONF
]
UNUSED = "paths.output_dir=unused"
IMAGE, TEXT = ([c for g, c in CHOICES if g == f"{kind}_encoder"] for kind in ("image", "text"))
PAIRS = [  # each encoder at least once
    (IMAGE[n % len(IMAGE)], TEXT[n % len(TEXT)]) for n in range(max(len(IMAGE), len(TEXT)))
]


@pytest.fixture
def offline(compose_config):
    """Return a function from overrides to a config whose encoders load no published weights."""

    def composed(*overrides):
        cfg = compose_config(*overrides, UNUSED)
        cfg.image_encoder.pretrained = cfg.text_encoder.pretrained = False
        return cfg

    return composed


def with_parts(compose, override, **choices):
    """Return the config of an override and choices of groups; all that is composed once is reused.

    Groups are independent: `test_groups_are_composed_by_themselves` holds that this is the config
    of all overrides together.
    """
    cfg = compose(override)
    with open_dict(cfg):
        for group, choice in choices.items():
            cfg[group] = compose(f"{group}={choice}")[group]
    return cfg


def test_the_walk_reaches_every_file():
    primary = {path.name for path in CONF.glob("*.yaml")}
    named = {"train", "evaluate", "explain", "convert", "export", "tune"}
    assert primary == {f"{name}.yaml" for name in named}
    assert len(CHOICES) + len(primary) == len(list(CONF.rglob("*.yaml")))
    assert {"model", "image_encoder", "text_encoder", "dataset", "recipe"} <= set(GROUPS)


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=2", "model=irra", "dataset.image_size=[48,16]", "recipe=scratch"],
        ["~callbacks.gallery", "+trainer.val_check_interval=0.5", "model/alignment=infonce"],
        ["~logger", "model=lcr2s", "++dataset.read={a: 1, b: '2'}", "label='a=b'", "seed=null"],
    ],
)
def test_a_config_of_the_tests_is_the_one_that_hydra_composes(compose_config, overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        expected = compose("train", overrides)
    assert compose_config(*overrides) == compose_config(*overrides) == expected
    with pytest.raises(ConfigCompositionException, match="Could not override 'sede'"):
        compose_config(*overrides, "sede=2")


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_choice_composes_and_resolves(compose_config, monkeypatch, group, choice):
    """And its numbers and switches are of the kinds that the signatures ask for."""
    if group in ("tuning", "source"):
        pytest.skip("composed by test_tune.py and test_convert.py, with a config of their own")
    for name in ("SLURM_NTASKS_PER_NODE", "SLURM_NNODES", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    cfg = compose_config(f"{group}={choice}", UNUSED)
    resolved = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert resolved["task"] == "train"
    check_signatures(cfg)


@pytest.mark.parametrize(("image", "text"), PAIRS)
def test_groups_are_composed_by_themselves(offline, image, text):
    models, recipes = ([c for g, c in CHOICES if g == group] for group in ("model", "recipe"))
    number = PAIRS.index((image, text))
    model = f"model={models[number % len(models)]}"
    parts = {"recipe": recipes[number % len(recipes)], "image_encoder": image, "text_encoder": text}
    together = offline(model, *(f"{group}={choice}" for group, choice in parts.items()))
    assert with_parts(offline, model, **parts) == together


@pytest.mark.parametrize("choice", IMAGE)
def test_image_encoder_fits_every_method(offline, choice):
    cfg = offline(f"image_encoder={choice}")
    with torch.device("meta"):
        model = build_model(cfg, build_encoders(cfg), 7)
    assert model.classifier_weight.shape[1] == 7


@pytest.mark.parametrize("choice", TEXT)
@pytest.mark.parametrize("method", [c for g, c in CHOICES if g == "model"])
def test_text_encoder_fits_every_method(offline, choice, method):
    cfg = with_parts(offline, f"model={method}", text_encoder=choice)
    with torch.device("meta"):
        encoders = build_encoders(cfg)
        if method == "irra_official" and not choice.startswith("clip_text"):
            with pytest.raises(InstantiationException, match="expected CLIP's text encoder"):
                build_model(cfg, encoders, 7)
            return
        model = build_model(cfg, encoders, 7)
    grouped = [p for group in model.parameter_groups().values() for p in group]
    assert len(grouped) == len(list(model.parameters()))
    assert set(model.parameter_groups()) <= set(cfg.recipe.learning_rates)


@pytest.mark.parametrize("choice", [c for g, c in CHOICES if g == "dataset"])
def test_dataset_instantiates_without_reading(offline, choice):
    cfg = offline(f"dataset={choice}")
    datamodule = build_datamodule(cfg)
    assert datamodule.name == choice
    assert datamodule.batch_size == cfg.batch_size


@pytest.mark.parametrize("choice", [c for g, c in CHOICES if g == "recipe"])
def test_recipe_gives_an_optimiser_and_a_schedule(compose_config, choice):
    cfg = compose_config(f"recipe={choice}", UNUSED)
    recipe = instantiate(cfg.recipe, _convert_="all")
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = recipe["optimizer"]([{"params": [parameter], "lr": 0.1}])
    assert "scheduler" in recipe["schedule"](optimizer, total_steps=10)


@pytest.mark.parametrize("choice", [c for g, c in CHOICES if g == "callbacks"])
def test_callbacks_instantiate(compose_config, choice):
    cfg = compose_config(f"callbacks={choice}", UNUSED)
    assert len(instantiate(cfg.callbacks, _convert_="all")) == len(cfg.callbacks)


@pytest.mark.parametrize("choice", ["cpu", "auto"])
def test_trainer_instantiates(compose_config, choice):
    cfg = compose_config(f"trainer={choice}", UNUSED)
    trainer = build_trainer(cfg, [], [])
    assert trainer.max_epochs == cfg.max_epochs


@pytest.mark.parametrize("recipe", [c for g, c in CHOICES if g == "recipe"])
@pytest.mark.parametrize(("image", "text"), PAIRS)
def test_the_learning_rate_of_an_encoder_counts_under_every_recipe(offline, recipe, image, text):
    cfg = with_parts(offline, f"recipe={recipe}", image_encoder=image, text_encoder=text)
    cfg.image_encoder.learning_rate, cfg.text_encoder.learning_rate = 7, 8
    assert cfg.model.learning_rates.image_encoder == 7
    assert cfg.model.learning_rates.text_encoder == 8


def test_encoders_from_scratch_learn_with_the_rate_of_their_files(compose_config):
    rates = compose_config("recipe=scratch").model.learning_rates
    assert rates == dict.fromkeys(("image_encoder", "text_encoder", "head", "classifier"), 2e-3)


EXPERIMENTS = [c for g, c in CHOICES if g == "experiment"]
PUBLISHED_ENCODERS = {
    "lgur": ("DeiT-Small", "BERT"),
    "lgur_official": ("DeiT-Small", "BERT"),
    "lgur_resnet50": ("ResNet-50", "BERT"),
    "lcr2s": ("ResNet-50", "BERT+TextCNN"),
    "irra": ("CLIP ViT-B/16", "CLIP"),
    "irra_official": ("CLIP ViT-B/16", "CLIP"),
    "rde": ("CLIP ViT-B/16", "CLIP"),
}


@pytest.mark.parametrize("dataset", ["cuhk_pedes", "icfg_pedes", "rstpreid"])
@pytest.mark.parametrize("choice", EXPERIMENTS)
def test_an_experiment_states_what_is_published_on_each_data_set(compose_config, choice, dataset):
    cfg = compose_config(f"experiment={choice}", f"dataset={dataset}")
    method = cfg.model._target_.rpartition(".")[2].upper()
    rows = [
        {f"test/{name}": value for name, value in row.metrics.items()}
        for row in read_published(dataset)
        if (row.method, PUBLISHED_ENCODERS.get(choice))
        == (method, (row.image_encoder, row.text_encoder))
    ]
    assert dict(cfg.paper) == (rows[0] if rows else {})
    text = (CONF / "experiment" / f"{choice}.yaml").read_text()
    assert f"experiment={choice} " in text
    assert cfg.expected is not None or "expected: null # " in text + (  # with the reason
        (CONF / "experiment" / "lgur.yaml").read_text() if "- lgur\n" in text else ""
    )


@pytest.mark.parametrize("choice", EXPERIMENTS)
def test_an_experiment_builds_on_the_data_set_that_it_states(offline, choice):
    cfg = offline(f"experiment={choice}")
    assert cfg.dataset.name == "cuhk_pedes"
    with torch.device("meta"):
        model = build_model(cfg, build_encoders(cfg), 7)
        if cfg.teaching is not None:
            check_teaching(cfg)
            build = instantiate(cfg.model.teacher, _convert_="all")
            teacher = build(num_train_pids=7, **build_encoders(cfg))
            assert teacher.feature_dim == model.feature_dim
            assert cfg.dataset.pad == 0  # as the recipe's source


def test_experiments_pin_the_values_that_depend_on_the_data_set(compose_config):
    official, supports = {}, {}
    for dataset in ("cuhk_pedes", "icfg_pedes", "rstpreid"):
        cfg = compose_config("experiment=lgur_official", f"dataset={dataset}")
        official[dataset] = (list(cfg.dataset.read.exclude_ids), cfg.dataset.read.val_fraction)
        assert cfg.selection == "test"
        assert cfg.text_encoder.module.embedding.frozen_dropout == "official"
        sizes = set()
        for choice in ("lcr2s", "lcr2s_deit", "lcr2s_clip"):
            cfg = compose_config(f"experiment={choice}", f"dataset={dataset}")
            supported = cfg.model.teacher.supports
            sizes.add((supported.num_images, supported.num_texts))
        (supports[dataset],) = sizes
    assert official == {
        "cuhk_pedes": ([1369, 4116, 6116], 0.05),
        "icfg_pedes": ([1369], 0.0),
        "rstpreid": ([], 0.05),
    }
    assert supports == {"cuhk_pedes": (2, 2), "icfg_pedes": (4, 4), "rstpreid": (4, 4)}


@pytest.mark.parametrize(
    ("selection", "split"), [("val", "val"), ("last", "val"), ("test", "test")]
)
def test_the_validated_split_follows_the_selection(compose_config, selection, split):
    cfg = compose_config(f"selection={selection}", "paths.output_dir=a")
    assert (cfg.validation_split, cfg.monitor) == (split, f"{split}/R1")
    assert cfg.callbacks.lines.validation_split == split
    check_scalars(cfg)


def test_the_official_presets_differ_in_what_they_name(compose_config):
    changed, plain = (
        compose_config(f"experiment={choice}", "paths.output_dir=unused")
        for choice in ("lgur_official", "lgur")
    )
    assert changed.model.alignment.columns == changed.recipe.schedule.stepping == "official"
    assert plain.model.alignment.columns == plain.recipe.schedule.stepping == "corrected"
    assert changed.text_encoder.module.embedding.frozen_dropout == "official"
    assert plain.text_encoder.module.embedding.frozen_dropout == "never"
    plain.model.alignment.columns = plain.recipe.schedule.stepping = "official"
    plain.text_encoder.module.embedding.frozen_dropout = "official"
    assert changed.dataset.read.exclude_ids == [1369, 4116, 6116]
    plain.dataset.read.exclude_ids = [1369, 4116, 6116]
    assert (changed.dataset.decode, plain.dataset.decode) == ("pillow", "fast")
    plain.dataset.decode = "pillow"
    assert changed.selection == "test"
    plain.selection = "test"
    assert changed.recipe.tf32 is False
    plain.recipe.tf32 = False
    for cfg in (changed, plain):
        OmegaConf.resolve(cfg)
        del cfg.by_dataset  # the other keys have chosen from it
    assert changed == plain


def test_model_and_recipe_of_the_official_preset_serve_any_data(compose_config):
    cfg = compose_config("model=lgur_official", "recipe=lgur_official", "dataset=synthetic")
    assert cfg.model.alignment.columns == cfg.recipe.schedule.stepping == "official"


@pytest.mark.parametrize("loss", [c for g, c in CHOICES if g == "model/alignment"])
@pytest.mark.parametrize("method", ["baseline", "lgur"])
def test_every_alignment_loss_fits_every_method(offline, method, loss):
    cfg = offline(f"model={method}", f"model/alignment={loss}")
    with torch.device("meta"):
        model = build_model(cfg, build_encoders(cfg), 7)
    kind = "ranking" if loss == "ranking_manet" else loss
    assert type(model.alignment).__name__.lower().startswith(kind.replace("_", ""))
    if kind == "ranking":  # LGUR's code and LCR2S's sibling
        assert model.alignment.margin == (0.3 if loss == kind else 0.2)


@pytest.mark.parametrize("model", ["baseline", "lcr2s"])
@pytest.mark.parametrize("towers", [("clip_vit_b16", "clip_text"), ("siglip2_base",) * 2])
def test_a_dual_encoder_over_pretrained_towers_begins_as_they_do(compose_config, model, towers):
    towers = (f"image_encoder={towers[0]}", f"text_encoder={towers[1]}")
    chosen = [compose_config(f"model={model}", *towers), compose_config(f"model={model}")]
    chosen.append(compose_config(f"model={model}", *towers, "image_encoder.projection=pooled"))
    duals = [cfg.model if model == "baseline" else cfg.model.dual for cfg in chosen]
    assert [dual.projection for dual in duals] == ["pretrained", "pooled", "pooled"]
    assert duals[0].embedding_dim == chosen[0].text_encoder.module.out_dim
    clip = compose_config("experiment=lcr2s_clip").model
    assert clip.dual.projection == clip.teacher.dual.projection == "pretrained"


def test_the_synthetic_set_brings_small_encoders_and_the_command_line_wins(compose_config):
    assert compose_config().image_encoder.pretrained is False
    assert compose_config().batch_size == compose_config("recipe=scratch").recipe.batch_size
    assert isinstance(compose_config("dataset=cuhk_pedes").image_encoder.pretrained, str)
    changed = compose_config("image_encoder=deit_small", "recipe=lgur", "batch_size=3")
    assert isinstance(changed.image_encoder.pretrained, str)
    assert changed.recipe.max_epochs == 60
    assert changed.batch_size == 3


def test_every_group_of_the_official_preset_has_its_rate_in_every_epoch(offline):
    """Official code: 60 epochs, Adam, drops by 10 one epoch early, LSTM and heads faster."""
    cfg = offline("experiment=lgur_official")
    cfg.text_encoder.module.embedding.depth = cfg.image_encoder.module.depth = 1
    cfg.image_encoder.module.trunk_depth = 1
    model = build_model(cfg, build_encoders(cfg), 3)
    optimizer, schedule = optimizer_of(model, total_steps=60 * 1064)
    assert type(optimizer) is torch.optim.Adam
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.999), 1e-8, 0)
    base = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            base[names[id(parameter)]] = group["initial_lr"]
    fast = ("text_encoder.lstm.", "head.part_projection", "classifier_")
    assert base == {
        name: 1e-3 if name.startswith(fast) else 1e-4
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    assert schedule["interval"] == "epoch"
    factors = [1.0] * 19 + [0.1] * 20 + [0.01] * 10 + [0.001] * 11
    for factor in factors:
        for group in optimizer.param_groups:
            assert group["lr"] == pytest.approx(group["initial_lr"] * factor)
        optimizer.step()
        schedule["scheduler"].step()
    assert cfg.max_epochs == len(factors)


def test_lgur_as_the_dual_encoder_of_lcr2s_is_lcr2s_on_lgur(compose_config):
    by_hand = compose_config("model=lcr2s", "model@model.dual=lgur")
    assert by_hand.model == compose_config("model=lcr2s_lgur").model
    assert by_hand.model.teacher.fusion.parts is None
