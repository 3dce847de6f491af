"""Instantiate encoders, model and data module from a composed config."""

from typing import TYPE_CHECKING, Any, cast

import torch
from hydra.errors import HydraException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tireid.methods.base import RetrievalModule

if TYPE_CHECKING:  # who embeds needs neither it nor Lightning
    from tireid.data.datamodule import TireidDataModule

SETTINGS_ERRORS = (HydraException, OmegaConfBaseException)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Return a config as plain values, its interpolations resolved."""
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))


def stage_seed(cfg: DictConfig) -> int:
    """Return the seed of a run's draws; a teacher's are not those of its student."""
    offset: int = get_class(cfg.model._target_).seed_offset  # pyright: ignore[reportAttributeAccessIssue] -- a method
    return (cfg.seed + offset) % 2**32


def build_datamodule(cfg: DictConfig, **changes: Any) -> "TireidDataModule":
    """Instantiate the data module with the inputs that encoders and method ask for.

    The encoders carry the recipe of images and tokens; a method that draws on support sets, or its
    teacher, carries their size and content; one that predicts masked words how they are masked.

    Args:
        cfg: A composed training config.
        **changes: Constructor arguments that replace the config's.
    """
    arguments: dict[str, Any] = {
        "tokenizer": cfg.text_encoder.tokenizer,
        "mean": cfg.image_encoder.mean,
        "std": cfg.image_encoder.std,
        "interpolation": cfg.image_encoder.interpolation,
        "shortest_edge": cfg.image_encoder.get("shortest_edge"),
        "batch_size": cfg.batch_size,
        "seed": stage_seed(cfg),
        "supports": OmegaConf.select(cfg, "model.supports")
        or OmegaConf.select(cfg, "model.teacher.supports"),
        "masking": OmegaConf.select(cfg, "model.masking")
        or OmegaConf.select(cfg, "model.dual.masking"),
        "word_ids": OmegaConf.select(cfg, "text_encoder.words"),
        "cache_dir": cfg.paths.cache_dir,
        "validation_split": cfg.validation_split,
    }
    return instantiate(cfg.dataset, **(arguments | changes), _convert_="all")


def build_encoders(cfg: DictConfig) -> dict[str, Any]:
    """Instantiate the image and the text encoder, by name."""
    return {
        name: instantiate(cfg[name].module, _convert_="all")
        for name in ("image_encoder", "text_encoder")
    }


def build_model(cfg: DictConfig, encoders: dict[str, Any], num_train_pids: int) -> RetrievalModule:
    """Instantiate the method over its encoders.

    Args:
        cfg: A composed training config.
        encoders: Image and text encoder by name, from `build_encoders`.
        num_train_pids: Number of training identities that the data module found.
    """
    return instantiate(cfg.model, **encoders, num_train_pids=num_train_pids, _convert_="all")


def allow_tf32(allowed: bool) -> None:
    """Allow TensorFloat-32 on GPUs, or not; ranking is in float64 and not touched.

    Args:
        allowed: Whether products and convolutions may use it.
    """
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
