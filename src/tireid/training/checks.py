"""Check settings and splits before anything is built."""

from typing import Any, get_args

from omegaconf import DictConfig

from tireid.data.word_table import WordType
from tireid.metrics.names import monitors
from tireid.training.summary import CHOSEN


def check_splits(cfg: DictConfig, datamodule: Any) -> None:
    """Check, before training, that the splits are there that the run ends with.

    Raises:
        ValueError: Names the split that is missing.
    """
    datamodule.records("test")
    if cfg.selection == "val":
        try:
            datamodule.records("val")
        except ValueError as error:
            raise ValueError(f"{error}; without it, set selection=last") from error


def check_scalars(cfg: DictConfig) -> None:
    """Check the root's scalars before anything is built; let `selection=test` validate on test.

    Raises:
        ValueError: Names the setting, its value, what was expected and what to type.
    """
    if cfg.selection == "test":
        cfg.validation_split = "test"
    metrics = monitors(cfg.validation_split)
    checks = {
        "batch_size": (isinstance(cfg.batch_size, int) and cfg.batch_size > 0, "an integer > 0"),
        "max_epochs": (isinstance(cfg.max_epochs, int) and cfg.max_epochs > 0, "an integer > 0"),
        "seed": (
            isinstance(cfg.seed, int) and 0 <= cfg.seed < 2**32,
            "an integer from 0 to 2**32 - 1",
        ),
        "validation_split": (
            cfg.validation_split == "val" or cfg.selection == "test",
            "val; selection=test sets it to test",
        ),
        "selection": (cfg.selection in CHOSEN, f"one of {', '.join(CHOSEN)}"),
        "cache_words": (
            isinstance(cfg.cache_words, bool) or cfg.cache_words == "auto",
            "auto, true or false",
        ),
        "cache_words_dtype": (
            cfg.cache_words_dtype in get_args(WordType),
            " or ".join(get_args(WordType)),
        ),
        "compile": (isinstance(cfg.compile, bool), "true or false"),
        "ckpt_path": (
            cfg.ckpt_path is None or (isinstance(cfg.ckpt_path, str) and cfg.ckpt_path),
            "auto, last, null or a checkpoint's path",
        ),
        "monitor": (
            cfg.monitor in metrics,
            f"a metric of what is validated, one of {', '.join(metrics)}",
        ),
    }
    for name, (good, expected) in checks.items():
        if not good:
            raise ValueError(f"{name}: expected {expected}, got {cfg[name]!r}; set {name}=...")
