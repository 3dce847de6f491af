"""Refuse settings that were changed and would do nothing beside the others."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from tireid.files import conf_dir
from tireid.runs.settings import flatten, method_name


class Idle(NamedTuple):
    """A setting that counts only beside certain values of another.

    Attributes:
        name: The setting.
        beside: The other setting.
        counts: Values of the other with which it counts.
    """

    name: str
    beside: str
    counts: tuple[Any, ...]


_WEIGHING = ("anchor_query", "self_attention", "self_attentive")
_LAYOUT = "text_encoder.module.layout"
_SETTINGS = (
    Idle("dataset.pairs_per_id", "dataset.sampler", ("identity_balanced",)),
    Idle("text_encoder.module.kernel_sizes", _LAYOUT, ("kim",)),
    Idle("text_encoder.module.stem_dim", _LAYOUT, ("tipcb",)),
    Idle("text_encoder.module.bottleneck_dim", _LAYOUT, ("tipcb",)),
    Idle(
        "text_encoder.module.embedding.frozen_dropout",
        "text_encoder.module.embedding.frozen",
        (True,),
    ),
)
_TEACHER = (
    Idle("memory.capacity", "source", ("memory",)),
    Idle("memory.max_age", "source", ("memory",)),
    Idle("supports.exclude_same_image_text", "source", ("dataset",)),
    Idle("fusion.heads", "fusion.kind", _WEIGHING),
    Idle("fusion.residual", "fusion.kind", _WEIGHING),
)
_LGUR = (
    Idle("head.dictionary_size", "head.use_dictionary", (True,)),
    *(
        Idle(f"head.{name}", "head.pooling", ("prototypes",))
        for name in (
            "num_prototypes",
            "prototype_depth",
            "prototype_head_dim",
            "prototype_hidden_dim",
            "shared_prototypes",
        )
    ),
)


def check_idle(cfg: DictConfig) -> None:
    """Check that no changed setting is without effect.

    Raises:
        ValueError: Names the setting, its value, and what it would count with.
    """
    teacher = "model.teacher" if OmegaConf.select(cfg, "model.teacher") is not None else "model"
    dual = "model.dual" if OmegaConf.select(cfg, "model.dual") is not None else "model"
    for prefix, settings in (("", _SETTINGS), (f"{teacher}.", _TEACHER), (f"{dual}.", _LGUR)):
        for idle in settings:
            _check(cfg, prefix, idle)
    _check_pretrained(cfg)
    _check_pooling(cfg, dual)
    _check_short_supports(cfg, teacher)
    for method in dict.fromkeys((teacher, f"{teacher}.dual", dual)):
        _check_smoothing(cfg, method)


def check_idle_evaluation(cfg: DictConfig) -> None:
    """Check that no changed setting of an evaluation is without effect.

    Raises:
        ValueError: Names the setting, its value, and what it would count with.
    """
    if cfg.ensemble_weights is not None and not cfg.ensemble:
        raise ValueError(
            f"ensemble_weights: does nothing without ensemble=[RUN,...], got {cfg.ensemble_weights}"
        )
    usual = OmegaConf.load(Path(conf_dir(), "evaluate.yaml")).reranking
    if cfg.reranking != usual and not cfg.rerank:
        raise ValueError(f"reranking: does nothing without rerank=true, got {cfg.reranking}")


def _check(cfg: DictConfig, prefix: str, idle: Idle) -> None:
    beside = OmegaConf.select(cfg, prefix + idle.beside)
    if beside is None or beside in idle.counts:
        return
    name, value = prefix + idle.name, OmegaConf.select(cfg, prefix + idle.name)
    usual = _usual(idle.name if prefix else name)
    if value not in usual:
        fix = f"{prefix}{idle.beside}={idle.counts[0]}"
        raise _idle(name, value, f"{prefix}{idle.beside}={beside}", usual[0], fix)


def _usual(name: str) -> list[Any]:
    """Return the values of a setting in the configs that bring it along, which nobody chose."""
    group, _, rest = name.partition(".")
    if group not in ("dataset", "image_encoder", "text_encoder"):
        group, rest = "model", name
    return [value for key, value in _group_values(group) if key == rest or key.endswith(f".{rest}")]


@cache
def _group_values(group: str) -> list[tuple[str, Any]]:
    files = sorted(Path(conf_dir(), group).glob("*.yaml"))
    settings: list[Any] = [OmegaConf.to_container(OmegaConf.load(file)) for file in files]
    return [item for content in settings for item in flatten(content).items()]


def _check_pretrained(cfg: DictConfig) -> None:
    """Check that weights are named only for an encoder that reads some."""
    for encoder in ("image_encoder", "text_encoder"):
        value = OmegaConf.select(cfg, f"{encoder}.pretrained")
        module = cfg[encoder].module
        reads = any(
            OmegaConf.select(module, name) is not None
            for name in ("pretrained", "embedding.pretrained")
        )
        if value and not reads:
            raise _idle(f"{encoder}.pretrained", value, module._target_, "false", "")


def _check_pooling(cfg: DictConfig, dual: str) -> None:
    """Check the settings of a pooled feature, which LGUR does not read."""
    method = get_class(OmegaConf.select(cfg, f"{dual}._target_"))
    if getattr(method, "reads_pooled", True):
        return
    for name in ("image_encoder.module.pool", "image_encoder.projection"):
        value, usual = OmegaConf.select(cfg, name), _usual(name)
        if value is not None and value not in usual:
            raise _idle(name, value, f"the method {method_name(method.__name__)}", usual[0], "")


def _check_smoothing(cfg: DictConfig, method: str) -> None:
    """Check the smoothing of identity losses, which a weight of 0 leaves out."""
    name, beside = f"{method}.label_smoothing", f"{method}.identity_weight"
    value = OmegaConf.select(cfg, name)
    if value and OmegaConf.select(cfg, beside) == 0:
        raise _idle(name, value, f"{beside}=0", 0.0, f"{beside}=1")


def _check_short_supports(cfg: DictConfig, teacher: str) -> None:
    """Check the rule for identities with too few samples, which only draws from the data follow."""
    source = OmegaConf.select(cfg, f"{teacher}.source")
    drawn = source in (None, "dataset")
    if cfg.teaching is not None:  # supports of the targets, and of the oracle, are from the data
        drawn |= cfg.teaching.targets == "once" or cfg.teaching.oracle
    short = OmegaConf.select(cfg, f"{teacher}.supports.short")
    if short == "pad" and not drawn:
        name = f"{teacher}.supports.short"
        usual, fix = _usual("supports.short")[0], f"{teacher}.source=dataset"
        raise _idle(name, short, f"{teacher}.source={source}", usual, fix)


def _idle(name: str, value: Any, beside: str, usual: Any, fix: str) -> ValueError:
    ways = f"set {name}={usual}" + (f", or {fix}" if fix else "")
    return ValueError(f"{name}: does nothing with {beside}, got {value}; {ways}")
