"""Check settings and splits before anything is built."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any, get_args

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig, OmegaConf
from torch import nn

from tireid.checkpoints.last_checkpoint import LastCheckpoint
from tireid.data.datamodule import TireidDataModule
from tireid.data.tokenizers import CaptionTokenizer
from tireid.data.word_table import WordType
from tireid.metrics.names import monitors
from tireid.training.devices import lacks_float16
from tireid.training.summary import CHOSEN

_PROCESSES = "set strategy=ddp (GPUs) or strategy=ddp_cpu, and strategy.devices=N for their number"
# Arguments of Lightning's trainer that have another place here: harmless values, what to type.
_ELSEWHERE: dict[str, tuple[tuple[Any, ...], str]] = {
    "strategy": ((), _PROCESSES),
    "devices": ((), _PROCESSES),
    "num_nodes": ((), "set strategy=torchrun or strategy=slurm, which know the machines"),
    "sync_batchnorm": ((), "set strategy.sync_batch_norm=..."),
    "plugins": ((), "choose a strategy=..., which brings its own"),
    "callbacks": ((), "set callbacks.NAME=... for each"),
    "logger": ((), "choose logger=csv, auto, wandb or tensorboard"),
    "use_distributed_sampler": ((False,), "leave it out: the samplers share the data themselves"),
    "enable_checkpointing": ((None, True), "set ~callbacks.checkpoint or ~callbacks.last"),
    "enable_progress_bar": ((None, True), "set ~callbacks.progress"),
    "fast_dev_run": ((False, 0), "set debug=fast"),
    "overfit_batches": (
        (0,),
        "set debug=fast, or train on few people: dataset.read.num_train_ids=4",
    ),
    "barebones": ((False,), "set debug=fast"),
}
_WHOLE = (
    "1.0, since a part of a split has other ranks and is no result; debug=fast trains on a part"
)


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


def check_trainer(cfg: DictConfig) -> None:
    """Check that the trainer's settings have their place there and leave results whole.

    Raises:
        ValueError: Names the setting, its value and what to type.
    """
    for name, (harmless, instead) in _ELSEWHERE.items():
        if name in cfg.trainer and cfg.trainer[name] not in harmless:
            raise ValueError(
                f"trainer.{name}: expected no such setting, got {cfg.trainer[name]!r}; {instead}"
            )
    if lacks_float16(cfg.trainer.get("accelerator"), cfg.trainer.get("precision")):
        raise ValueError(
            "trainer.precision: expected 32-true or bf16-mixed on a CPU, got 16-mixed, whose "
            "scaled float16 needs a GPU; set trainer.precision=bf16-mixed, or trainer=gpu "
            "trainer.precision=16-mixed"
        )
    limits = {f"limit_{kind}_batches": 1.0 for kind in ("train", "val", "test")}
    train, val, test = (cfg.trainer.get(name, whole) for name, whole in limits.items())
    unvalidated = cfg.selection == "last" and val == 0
    checks = {
        "trainer.limit_train_batches": (train is None or train > 0, "a number > 0"),
        "trainer.limit_val_batches": (
            _is_whole(val) or unvalidated,
            f"{_WHOLE}; with selection=last also 0, no validation",
        ),
        "trainer.limit_test_batches": (_is_whole(test), _WHOLE),
    }
    check(checks, cfg)


def _is_whole(limit: Any) -> bool:
    return limit is None or (isinstance(limit, float) and limit == 1.0)  # 1 is one batch


def check_selection(selection: str, trainer: L.Trainer, batches: int) -> None:
    """Check, before training, that the checkpoint that is to be tested will be written.

    Args:
        selection: Which checkpoint is tested.
        trainer: The trainer of the run.
        batches: Number of training batches of an epoch.

    Raises:
        ValueError: If it will not; says what to set.
    """
    kind, name = (
        (LastCheckpoint, "last") if selection == "last" else (ModelCheckpoint, "checkpoint")
    )
    callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue] -- set by Trainer's connector
    if not any(isinstance(callback, kind) for callback in callbacks):
        raise ValueError(
            f"selection={selection}: expected callbacks.{name}, which writes the checkpoint that "
            "is tested, got none; keep it, or choose selection=last or val"
        )
    if selection != "last" and not _is_validated(trainer, batches):
        settings = {
            name: getattr(trainer, name)
            for name in ("check_val_every_n_epoch", "val_check_interval", "max_epochs", "max_steps")
        }
        raise ValueError(
            f"selection={selection}: expected a validation, by which the tested checkpoint is "
            f"chosen, got none before the training ends: {batches} batches an epoch, "
            f"{', '.join(f'trainer.{name}={value}' for name, value in settings.items())}; set "
            "selection=last, validate more often, or train longer"
        )


def _is_validated(trainer: L.Trainer, batches: int) -> bool:
    limit, interval = trainer.limit_train_batches, trainer.val_check_interval
    batches = int(batches * limit) if isinstance(limit, float) else min(batches, limit)
    last = float("inf") if (trainer.max_epochs or 0) < 0 else batches * (trainer.max_epochs or 0)
    if trainer.max_steps >= 0:
        last = min(last, trainer.max_steps * trainer.accumulate_grad_batches)
    if interval is None:  # a time
        return True
    first = max(1, int(batches * interval)) if isinstance(interval, float) else interval
    if trainer.check_val_every_n_epoch is not None:
        first += (trainer.check_val_every_n_epoch - 1) * batches
    return first <= last


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
        "average_decay": (
            type(cfg.average_decay) in (int, float) and 0 <= cfg.average_decay < 1,
            "a number in [0, 1)",
        ),
        "layer_decay": (
            type(cfg.layer_decay) in (int, float) and 0 < cfg.layer_decay <= 1,
            "a number in (0, 1]",
        ),
        "frozen_blocks": (
            type(cfg.frozen_blocks) is int and cfg.frozen_blocks >= 0,
            "an integer >= 0",
        ),
        "lora_rank": (type(cfg.lora_rank) is int and cfg.lora_rank >= 0, "an integer >= 0"),
        "checkpoint_activations": (
            isinstance(cfg.checkpoint_activations, bool),
            "true or false",
        ),
        "micro_batch": (
            type(cfg.micro_batch) is int
            and isinstance(cfg.batch_size, int)
            and 0 <= cfg.micro_batch < cfg.batch_size,
            f"an integer from 1 to below batch_size={cfg.batch_size}, or 0",
        ),
        "tf32": (isinstance(cfg.tf32, bool), "true or false"),
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
    check(checks | _other_checks(cfg, split), cfg)
    _check_loggers(cfg)


def _check_loggers(cfg: DictConfig) -> None:
    targets = [str(node.get("_target_")) for node in (cfg.get("logger") or {}).values()]
    if not any(target.endswith(".TensorBoardLogger") for target in targets):
        return
    specs = [find_spec(name) for name in ("tensorboard", "tensorboardX")]
    if not any(spec and spec.origin for spec in specs):  # a folder of runs has none
        raise ValueError(
            "logger: expected TensorBoard to be installed, as logger=tensorboard asks for; "
            "pip install -e '.[tensorboard]', or set logger=csv"
        )


def _other_checks(cfg: DictConfig, split: str) -> dict[str, tuple[Any, str]]:
    """Return the checks of what names saved files, and of what callbacks take from the root."""
    paths = {
        name: (
            cfg.get(name) is None or isinstance(cfg[name], str),
            "the path of a run, a checkpoint or an export, or null",
        )
        for name in ("init_weights", "vocabulary", "teacher")
    }
    callbacks, metrics = cfg.get("callbacks") or {}, monitors(split)
    if "checkpoint" in callbacks:
        monitor = callbacks["checkpoint"].get("monitor")
        expected = f"one of {', '.join(metrics)}"
        paths["callbacks.checkpoint.monitor"] = (monitor in metrics, expected)
    return paths | {
        f"callbacks.{name}.validation_split": (callback.validation_split == split, split)
        for name, callback in callbacks.items()
        if isinstance(callback, DictConfig) and "validation_split" in callback
    }


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
            words = re.findall(r"[a-zA-Z][\w./@]*", expected)
            (nearest,) = get_close_matches(str(got), words, n=1) or ["..."]
            raise ValueError(f"{name}: expected {expected}, got {got!r}; set {name}={nearest}")
