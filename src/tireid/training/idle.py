"""Refuse settings that were changed and would do nothing beside the others."""

from typing import Any, NamedTuple

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf


class Idle(NamedTuple):
    """A setting that counts only beside certain values of another.

    Attributes:
        name: The setting.
        usual: Its values in the configs that bring it along.
        beside: The other setting.
        counts: Values of the other with which it counts.
    """

    name: str
    usual: tuple[Any, ...]
    beside: str
    counts: tuple[Any, ...]


_WEIGHING = ("anchor_query", "self_attention", "self_attentive")
_LAYOUT = "text_encoder.module.layout"
_SETTINGS = (
    Idle("dataset.pairs_per_id", (4,), "dataset.sampler", ("identity_balanced",)),
    Idle("text_encoder.module.kernel_sizes", ([2, 3, 4, 5],), _LAYOUT, ("kim",)),
    Idle("text_encoder.module.stem_dim", (128, 1024), _LAYOUT, ("tipcb",)),
    Idle("text_encoder.module.bottleneck_dim", (64, 512), _LAYOUT, ("tipcb",)),
    Idle(
        "text_encoder.module.embedding.frozen_dropout",
        ("never",),
        "text_encoder.module.embedding.frozen",
        (True,),
    ),
)
_TEACHER = (
    Idle("memory.capacity", (16384,), "source", ("memory",)),
    Idle("memory.max_age", (None,), "source", ("memory",)),
    Idle("supports.exclude_same_image_text", (True,), "source", ("dataset",)),
    Idle("fusion.heads", (8,), "fusion.kind", _WEIGHING),
    Idle("fusion.residual", (True,), "fusion.kind", _WEIGHING),
)
_LGUR = (
    Idle("head.dictionary_size", (400,), "head.use_dictionary", (True,)),
    Idle("head.num_prototypes", (6,), "head.pooling", ("prototypes",)),
    Idle("head.prototype_depth", (2,), "head.pooling", ("prototypes",)),
    Idle("head.prototype_head_dim", (512,), "head.pooling", ("prototypes",)),
    Idle("head.prototype_hidden_dim", (512,), "head.pooling", ("prototypes",)),
    Idle("head.shared_prototypes", (True,), "head.pooling", ("prototypes",)),
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


def _check(cfg: DictConfig, prefix: str, idle: Idle) -> None:
    beside = OmegaConf.select(cfg, prefix + idle.beside)
    value = OmegaConf.select(cfg, prefix + idle.name)
    if beside is None or beside in idle.counts or value in idle.usual:
        return
    raise _idle(
        prefix + idle.name,
        value,
        f"{prefix}{idle.beside}={beside}",
        idle.usual[0],
        f"{prefix}{idle.beside}={idle.counts[0]}",
    )


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
    for name, usual in (("module.pool", "max"), ("projection", "pretrained")):
        value = OmegaConf.select(cfg, f"image_encoder.{name}")
        if value not in (None, usual):
            raise _idle(f"image_encoder.{name}", value, f"the method {method.__name__}", usual, "")


def _check_short_supports(cfg: DictConfig, teacher: str) -> None:
    """Check the rule for identities with too few samples, which only draws from the data follow."""
    source = OmegaConf.select(cfg, f"{teacher}.source")
    drawn = source in (None, "dataset")
    if cfg.teaching is not None:  # supports of the targets, and of the oracle, are from the data
        drawn |= cfg.teaching.targets == "once" or cfg.teaching.oracle
    short = OmegaConf.select(cfg, f"{teacher}.supports.short")
    if short == "pad" and not drawn:
        name = f"{teacher}.supports.short"
        raise _idle(
            name, short, f"{teacher}.source={source}", "replace", f"{teacher}.source=dataset"
        )


def _idle(name: str, value: Any, beside: str, usual: Any, fix: str) -> ValueError:
    ways = f"set {name}={usual}" + (f", or {fix}" if fix else "")
    return ValueError(f"{name}: does nothing with {beside}, got {value}; {ways}")
