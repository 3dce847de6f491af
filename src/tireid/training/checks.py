"""Check settings and splits before anything is built."""

from collections.abc import Mapping
from typing import Any, get_args

from omegaconf import DictConfig, OmegaConf
from torch import nn

from tireid.data.datamodule import TireidDataModule
from tireid.data.tokenizers import CaptionTokenizer
from tireid.data.word_table import WordType
from tireid.metrics.names import monitors
from tireid.training.summary import CHOSEN


def check_splits(datamodule: TireidDataModule, selection: str) -> None:
    """Check, before training, that there are the splits that a run ends with.

    Raises:
        ValueError: Names the split that is missing.
    """
    datamodule.records("test")
    if selection == "val":
        try:
            datamodule.records("val")
        except ValueError as error:
            raise ValueError(
                f"{error}; without it, set selection=last (of a teacher: teaching.selection)"
            ) from error


def check_text_length(tokenizer: CaptionTokenizer, text_encoder: nn.Module) -> None:
    """Check, before training, that no caption can be longer than the text encoder takes.

    Raises:
        ValueError: If one can.
    """
    limits = [getattr(module, "max_positions", None) for module in text_encoder.modules()]
    positions = min((limit for limit in limits if isinstance(limit, int)), default=None)
    if positions is not None and tokenizer.max_length > positions:
        raise ValueError(
            f"text_encoder.tokenizer.max_length: expected at most {positions}, the positions of "
            f"the text encoder, got {tokenizer.max_length}; set "
            f"text_encoder.tokenizer.max_length={positions} or a larger max_positions"
        )


def check_scalars(cfg: DictConfig) -> None:
    """Check the root's scalars before anything is built.

    Raises:
        ValueError: Names the setting, its value, what was expected and what to type.
    """
    check({"selection": (cfg.selection in CHOSEN, f"one of {', '.join(CHOSEN)}")}, cfg)
    split = "test" if cfg.selection == "test" else "val"
    metrics = monitors(split)
    checks = {
        "batch_size": (isinstance(cfg.batch_size, int) and cfg.batch_size > 0, "an integer > 0"),
        "max_epochs": (isinstance(cfg.max_epochs, int) and cfg.max_epochs > 0, "an integer > 0"),
        "seed": (
            isinstance(cfg.seed, int) and 0 <= cfg.seed < 2**32,
            "an integer from 0 to 2**32 - 1",
        ),
        "validation_split": (
            cfg.validation_split == split,
            f"{split} with selection={cfg.selection}, which sets it",
        ),
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
    check(checks, cfg)


def check(checks: Mapping[str, tuple[Any, str]], cfg: DictConfig) -> None:
    """Check values of a config.

    Args:
        checks: By dotted name, whether the value is good, and what is expected.
        cfg: The config.

    Raises:
        ValueError: Names the first setting that is wrong, its value, what was expected and what to
            type.
    """
    for name, (good, expected) in checks.items():
        if not good:
            got = OmegaConf.select(cfg, name)
            raise ValueError(f"{name}: expected {expected}, got {got!r}; set {name}=...")
