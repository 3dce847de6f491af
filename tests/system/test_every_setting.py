"""Every setting of what is learned counts: changed, it changes the behaviour or is refused."""

import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tireid.data.conversion import convert
from tireid.data.tokenizers import TrainedWordPiece
from tireid.files import conf_dir
from tireid.inference.build import build_datamodule, build_encoders, build_model
from tireid.methods.optimization import optimizer_of
from tireid.runs.settings import flatten
from tireid.training.build import build_trainer
from tireid.training.checks import check_scalars
from tireid.training.idle import check_idle
from tireid.training.teacher import check_teaching, needs_teacher, targets_of, teacher_config
from tireid.world import WorldSettings, ensure_world

CONF = Path(conf_dir())
GROUPS = ("model", "model/alignment", "image_encoder", "text_encoder", "recipe", "dataset")
CHOICES = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
REFUSALS = (ValueError, TypeError, FileNotFoundError, HydraException, OmegaConfBaseException)
WORLD = {"num_train_ids": 8, "num_val_ids": 3, "num_test_ids": 3, "images_per_id": 3}
SMALL = {  # where a config has the setting
    "image_encoder.pretrained": False,
    "text_encoder.pretrained": False,
    "recipe.batch_size": 8,
    "recipe.max_epochs": 2,
    "recipe.schedule.milestones": [1, 3],
    "recipe.schedule.warmup_epochs": 2,
    "dataset.image_size": [48, 16],
    "dataset.num_workers": 0,
    "image_encoder.module.dim": 24,
    "image_encoder.module.depth": 3,
    "image_encoder.module.trunk_depth": 2,
    "image_encoder.module.heads": 2,
    "image_encoder.module.embedding_size": 4,
    "image_encoder.module.hidden_sizes": [4, 8, 8, 8],
    "image_encoder.module.depths": [1, 1, 1, 1],
    "text_encoder.module.vocab_size": 2000,
    "text_encoder.module.dim": 24,
    "text_encoder.module.depth": 1,
    "text_encoder.module.heads": 2,
    "text_encoder.module.embedding.vocab_size": 2000,
    "text_encoder.module.embedding.dim": 24,
    "text_encoder.module.embedding.depth": 1,
    "text_encoder.module.embedding.heads": 2,
    "text_encoder.module.hidden": 16,
    "text_encoder.tokenizer.max_length": 24,
    **{f"dataset.read.{name}": value for name, value in WORLD.items()},
}
# Another value of a setting, by the last part of its name or all of it, where "one more" is none.
OTHERS: dict[str, Any] = {
    "capacity": 5,
    "cache": "packed",
    "columns": {"corrected": "official", "official": "corrected"},
    "decode": {"fast": "pillow", "pillow": "fast"},
    "depths": [1, 1, 1, 2],
    "dictionary_heads": 3,
    "dictionary_hidden_dim": 8,
    "drop_path_rate": 0.9,
    "end_position": {"last": "largest_id", "largest_id": "last"},
    "erase_value": [0.1, 0.2, 0.3],
    "exclude_ids": [1],
    "frozen_dropout": "always",
    "heads": 4,
    "hidden_sizes": [4, 8, 8, 12],
    "image_size": [64, 32],
    "interpolation": "nearest",
    "kernel_sizes": [2, 3],
    "kind": "mean",
    "layer_type": {"bottleneck": "basic", "basic": "bottleneck"},
    "last_stride": 2,
    "layout": {"tipcb": "kim", "cuhk_pedes": "icfg_pedes"},
    "masked_for": {"relation": "all", "all": "relation"},
    "max_age": 1,
    "mean": [0.1, 0.2, 0.3],
    "std": [0.1, 0.2, 0.3],
    "name": "other",
    "terms": "others",
    "counts": {"train": {"ids": 1}},
    "max_epochs": 3,
    "max_length": 9,
    "max_positions": 25,
    "milestones": [1],
    "model.dual.projection": "none",
    "model.warmup_epochs": 3.0,
    "model.projection": "per_position",
    "name_or_path": "/no/such/tokenizer",
    "norm": "pre",
    "normalise_on": "device",
    "num_workers": 2,
    "parts": 2,
    "patch_size": {8: 16, 16: 8},
    "pool": {"max": "avg"},
    "pooling": "mean",
    "pretrained": "/no/such/model",
    "projection": "pooled",
    "prototype_heads": 3,
    "prototype_order": "plain",
    "readout": "mean",
    "reduction": {"sum": "mean", "mean": "sum_over_dim", "sum_over_dim": "mean"}
    | {"fro_sq_over_batch": "fro"},
    "repeats": "warn",
    "root": "/nowhere",
    "sampler": "identity_balanced",
    "selection": "val",
    "sets": {"cuhk_pedes": {"root": "/nowhere"}},
    "shared_dir": "/elsewhere",
    "short": "pad",
    "similarity": "dot",
    "slot_dropout": 0.5,
    "source": {"memory": "dataset", "dataset": "memory"},
    "stem": {"small": "standard"},
    "stepping": {"official": "corrected", "corrected": "official"},
    "targets": {"once": "each_step", "each_step": "once"},
    "target": {"sum": "l2"},
    "twin_fraction": 0.9,
    "vocab_size": 150,
    "val_fraction": 0.4,
    "version": 1,
    "weights": {"cuhk_pedes": 1.0, "custom": 3.0},
    "world_seed": 3,
}
# What does not change a batch, a loss, a weight or an embedding, and why.
WITHOUT_EFFECT = {
    "name": "a name",
    "terms": "shown to the user",
    "counts": "compared with what is read; warns",
    "other_releases": "names in that warning",
    "eval_batch_size": "the memory of an evaluation; changes no result",
    "num_workers": "the speed of loading; changes no result",
    "cache_images": "the speed of loading; changes no result",
    "cache": "the speed of loading; changes no result",
    "prefetch": "the speed of loading; changes no result",
    "normalise_on": "the speed of loading; changes no result",
    "persistent_workers": "the speed of loading; changes no result",
    "repeats": "what is said of an image named twice; here none is",
    "bad_images": "the images that cannot be read; here all can",
    "prototype_order": "the speed of the prototypes; the same result up to rounding",
    "fused": "the speed of the optimiser; the same result up to rounding",
    "tf32": "products on a GPU",
    "gradient_share_steps": "what is logged",
    "oracle": "metrics of the teacher in the record",
    "split_seed": "of files without a val split; the tests' files have one, but for icfg_pedes",
    "val_fraction": "as split_seed",
    "test_fraction": "of tables without splits",
    "erase_value": "beside erase_probability, which is 0",
    "words": "for methods that predict masked words, whose masking repeats them",
    "mended": "captions with entities, curly quotes or ligatures; here none has any",
    "norms": "the rate of IRRA's norms",
    "norms_bias": "as norms",
}


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = TrainedWordPiece(vocab_size=200, lowercase=False)
    tokenizer.fit(["a person in a red coat with a bag", "blue jeans and white shoes"])
    tokenizer.save(folder)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def base(compose_config, cache_dir, tmp_path, tokenizer_folder):
    """Return a function from a choice to its config, made small."""

    def composed(group: str, choice: str) -> DictConfig:
        overrides = ["recipe=scratch", "trainer=cpu", "logger=csv", f"paths.cache_dir={cache_dir}"]
        overrides += [f"paths.output_dir={tmp_path}"]
        if group != "model" and choice not in ("ranking", "ranking_manet"):
            overrides.append("model=baseline")
        if (group, choice) in (("model", "irra_official"), ("recipe", "irra")):
            # The one needs CLIP's end token, the other a text encoder with biases.
            overrides.append("text_encoder=clip_text_tiny")
        if choice == "clip_vit_b16":  # a dual encoder over it begins as CLIP
            overrides.append("text_encoder=clip_text")
        if choice == "siglip2_base":
            overrides.append("text_encoder=siglip2_base")
        if group == "dataset" and choice != "synthetic":
            layout = "cuhk_pedes" if choice in ("custom", "mixed") else choice
            root = ensure_world(cache_dir, WorldSettings(layout=layout, **WORLD), progress=False)
            if choice == "mixed":
                sets = f"{{cuhk_pedes: {{root: '{root}'}}, custom: {{root: '{tmp_path}'}}}}"
                overrides.append(f"dataset.read.sets={sets}")
            if choice in ("custom", "mixed") and not (tmp_path / "imgs").exists():
                convert("cuhk_pedes", root, "custom", tmp_path)
            root = tmp_path if choice == "custom" else root
            overrides += ["image_encoder=resnet_tiny", "text_encoder=bilstm_tiny"]
            overrides += [f"dataset.root={root}"]
        chosen = f"{group}={choice}"
        kept = [o for o in overrides if o.split("=")[0] != group]
        cfg = compose_config(*kept, chosen)
        small = SMALL | {"text_encoder.tokenizer.name_or_path": str(tokenizer_folder)}
        if choice == "siglip2_base":
            small |= {"text_encoder.module.out_dim": 24, "image_encoder.embedding_dim": 24}
        for name, value in small.items():
            if OmegaConf.select(cfg, name) is not None:
                OmegaConf.update(cfg, name, value)
        return cfg

    return composed


def settings_of(group: str, choice: str) -> Iterator[str]:
    """Yield the dotted name of every value that a config file sets itself."""
    text = (CONF / group / f"{choice}.yaml").read_text()
    content = {k: v for k, v in yaml.safe_load(text).items() if k != "defaults"}
    is_global = text.startswith("# @package _global_")
    for name, value in flatten(content).items():
        is_own = not (isinstance(value, str) and value.startswith("${"))
        if is_own and name.rsplit(".", 1)[-1] not in ("_target_", "_partial_"):
            yield name if is_global else f"{group.replace('/', '.')}.{name}"


def another(name: str, value: Any) -> Any:
    """Return another value of a setting."""
    for key in (name, name.rsplit(".", 1)[-1]):
        if key in OTHERS:
            other = OTHERS[key]
            is_map = isinstance(other, dict) and not isinstance(value, dict | None)
            return other[value] if is_map else other
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 + 0.11
    raise AssertionError(f"{name}={value!r}: give another value in OTHERS")


class Digest:
    """A hash of what a config does."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, *values: Any) -> None:
        for value in values:
            if isinstance(value, torch.Tensor):
                self._hash.update(value.detach().double().numpy().tobytes())
            elif isinstance(value, dict):
                self.add(*value.keys(), *value.values())
            elif isinstance(value, tuple | list):
                self.add(*value)
            else:
                self._hash.update(repr(value).encode())

    def __str__(self) -> str:
        return self._hash.hexdigest()


def behaviour(cfg: DictConfig) -> str:
    """Return a digest of batches, losses, rates and embeddings, or why a config is refused."""
    try:
        check_scalars(cfg)
        check_teaching(cfg)
        check_idle(cfg)
        seen = Digest()
        data = build_datamodule(cfg)
        data.prepare_data()
        data.setup("fit")
        model = build_model(cfg, build_encoders(cfg), data.num_train_pids)
        if needs_teacher(cfg):
            follow_teacher(cfg, model, data, seen)
        train(model, data, seen)
        for loader in data.val_dataloader():
            seen.add(model.eval().embed(next(iter(loader))))
        seen.add(data.batch_size, cfg.max_epochs, data.fingerprints())
    except REFUSALS as error:
        return f"refused: {error}"
    return str(seen)


def follow_teacher(cfg: DictConfig, model: Any, data: Any, seen: Digest) -> None:
    stage = teacher_config(cfg, Path("student"))
    seen.add(stage.max_epochs, stage.selection, Path(stage.paths.output_dir).parent)
    made = instantiate(cfg.model.teacher, _convert_="all")
    torch.manual_seed(1)
    teacher = made(num_train_pids=data.num_train_pids, **build_encoders(cfg))
    train(teacher, data, seen)
    each_step = cfg.teaching.targets == "each_step"
    targets = targets_of(teacher, each_step, data, build_trainer(cfg, [], []))
    model.set_teacher(targets, origin=teacher)


def train(model: Any, data: Any, seen: Digest) -> None:
    """Take three steps, and show the batches, losses and rates."""
    data.support_batches = model.takes_supports
    optimizer, schedule = optimizer_of(model, total_steps=20)
    model.begin_training(20, epochs=10)
    torch.manual_seed(2)
    for step, batch in zip(range(3), data.train_dataloader(), strict=False):
        model.train()
        terms = model.training_terms(batch, step).terms
        seen.add(batch.images, batch.token_ids, batch.pid, terms)
        sum(terms.values()).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule["scheduler"].step()
        seen.add([group["lr"] for group in optimizer.param_groups])


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # a step of a schedule is not one of a trainer
@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_setting_counts_or_is_refused(base, monkeypatch, group, choice):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    cfg = base(group, choice)
    torch.manual_seed(0)
    usual = behaviour(copy.deepcopy(cfg))  # to build from a config resolves parts of it
    assert not usual.startswith("refused"), usual
    without_effect = []
    for name in settings_of(group, choice):
        changed = copy.deepcopy(cfg)
        OmegaConf.update(changed, name, another(name, OmegaConf.select(cfg, name)), merge=False)
        torch.manual_seed(0)
        if behaviour(changed) == usual:
            without_effect.append(name)
    assert [name for name in without_effect if not set(name.split(".")) & set(WITHOUT_EFFECT)] == []
