"""What the entry points share: find the configs, build the parts, report bad input in one line."""

import functools
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import lightning as L
import torch
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from tireid import processes
from tireid.checkpoints.atomic_io import AtomicCheckpointIO
from tireid.checkpoints.last_checkpoint import LastCheckpoint
from tireid.data.word_features import WordEncoder
from tireid.data.word_table import WordType
from tireid.encoders.batch_norm import BatchNormSync
from tireid.training.errors import root_cause

TRACEBACK_VARIABLE = "TIREID_TRACEBACK"
BAD_INPUT = (ValueError, OSError, FloatingPointError, MisconfigurationException)
MONITORS = [
    f"{direction}{name}"
    for direction in ("", "i2t_")
    for name in ("R1", "R5", "R10", "mAP", "mAP_trapezoid", "mINP")
]
CHOSEN = {
    "val": "best on val",
    "last": "the last epoch",
    "test": "[bold red]best on the TEST split: not to be compared with others[/bold red]",
}
SETTINGS_ERRORS = (HydraException, OmegaConfBaseException)

# Said by libraries on every run, and meant for somebody else or already decided in the config.
QUIET_WARNINGS = [
    r".*The number of training batches .* is smaller than the logging interval.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*GPU available but not used.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r".*Experiment logs directory .* exists and is not empty.*",
    r".*enable_nested_tensor is True.*",
    r"Total length of `list` across ranks is zero.*",
    r"`ModelCheckpoint\(monitor=.*\)` could not find the monitored key.*",
    r"Found .* in eval mode at the start of training.*",
    r"(?s)Grad strides do not match bucket view strides.*",  # along a dimension of size 1
]


def _print_warning(message: Warning | str, *_: Any) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print("[yellow]warning:[/yellow] ", end="")
    console.print(str(message), markup=False)


def conf_dir() -> str:
    """Return the folder of the configs: inside an installed package, or beside the sources."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parents[1] / "conf"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise FileNotFoundError(f"expected the configs in {package / 'conf'}; reinstall tireid")


def quiet() -> None:
    """Silence what is no news: device notes, tips, warnings about decided things."""
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in QUIET_WARNINGS:
        warnings.filterwarnings("ignore", message=message)


def build_datamodule(cfg: DictConfig, **changes: Any) -> Any:
    """Instantiate the data module with the input recipe that the encoders carry.

    Args:
        cfg: A composed training config.
        **changes: Constructor arguments that replace the config's.
    """
    arguments: dict[str, Any] = {
        "tokenizer": cfg.text_encoder.tokenizer,
        "mean": cfg.image_encoder.mean,
        "std": cfg.image_encoder.std,
        "interpolation": cfg.image_encoder.interpolation,
        "batch_size": cfg.batch_size,
        "seed": cfg.seed,
        "supports": OmegaConf.select(cfg, "supports"),  # runs made before it was there have none
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


def cache_words(cfg: DictConfig, datamodule: Any, text_encoder: nn.Module, trainer: Any) -> None:
    """Have batches carry the words of a frozen word encoder, as `cache_words` says.

    Args:
        cfg: A composed training config.
        datamodule: After `setup`.
        text_encoder: Its `embedding`, where it has one, is the word encoder.
        trainer: Tells on which device words are computed.

    Raises:
        ValueError: If `cache_words` is true where words change between steps.
        OSError: If it is true and the words cannot be kept on disk.
    """
    encoder: Any = getattr(text_encoder, "embedding", None)
    if cfg.cache_words is False:
        return
    if not getattr(encoder, "constant", False):
        if cfg.cache_words is True:
            raise ValueError(_words_change(text_encoder, encoder))
        return

    def encode(token_ids: Tensor, valid: Tensor) -> Tensor:
        device = trainer.strategy.root_device
        encoder.eval().to(device)
        return encoder(token_ids.to(device), valid.to(device)).local

    words = WordEncoder(encode, encoder.out_dim, encoder.fingerprint())
    training = encoder.training
    try:
        datamodule.cache_words(words, cfg.cache_words_dtype)
    except OSError as error:
        if cfg.cache_words is True:
            raise
        warnings.warn(f"words are computed in every step: {error}", stacklevel=2)
        return
    finally:
        encoder.train(training).to("cpu")
    if trainer.is_global_zero:
        tables = datamodule.words
        mib = sum(table.num_bytes for table in tables.values()) / 2**20
        found = [f"{split} {'found' if t.found else 'computed'}" for split, t in tables.items()]
        Console(highlight=False, soft_wrap=True).print(
            f"words of the frozen {type(encoder).__name__}: {mib:,.1f} MiB in "
            f"{next(iter(tables.values())).folder.parent} ({', '.join(found)})",
            markup=False,
        )


def _words_change(text_encoder: nn.Module, encoder: Any) -> str:
    if encoder is None:
        got = f"{type(text_encoder).__name__}, which has no word encoder inside"
    elif not getattr(encoder, "frozen", False):
        got = f"{type(text_encoder).__name__} over {type(encoder).__name__}, which is trained"
    else:
        got = f"{type(text_encoder).__name__} over a frozen {type(encoder).__name__} with dropout"
    return (
        "cache_words=true: expected a text encoder over a frozen word encoder without dropout "
        f"(text_encoder=bert_bilstm), got {got}; set cache_words=auto"
    )


def build_model(cfg: DictConfig, encoders: dict[str, Any], num_train_pids: int) -> Any:
    """Instantiate the method over its encoders.

    Args:
        cfg: A composed training config.
        encoders: As `build_encoders` gives them.
        num_train_pids: Number of training identities that the data module found.
    """
    return instantiate(cfg.model, **encoders, num_train_pids=num_train_pids, _convert_="all")


def check_compiler() -> None:
    """Check that there is what `torch.compile` needs on a CPU.

    Raises:
        ValueError: Names what is missing and how to get it.
    """
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX", usual)
    if shutil.which(compiler) is None:
        raise ValueError(
            f"compile=true: expected a C++ compiler, which torch.compile needs on a CPU, got no "
            f"{compiler!r}; install one (Debian, Ubuntu: apt-get install g++; Fedora: dnf install "
            "gcc-c++; macOS: xcode-select --install), name yours in CXX, or set compile=false"
        )


def compile_model(model: nn.Module) -> None:
    """Compile the encoders and, where the method has one, its head, each at its first use.

    In place: names in the state dict stay, so that a checkpoint loads without compiling. Captions
    have many lengths, so what sees them is compiled for all at once.
    """
    within = getattr(model, "dual", model)  # a method may be built around another
    for name in ("image_encoder", "text_encoder", "head"):
        module = getattr(within, name, None)
        if isinstance(module, nn.Module):
            module.compile(dynamic=None if name == "image_encoder" else True)


def build_trainer(cfg: DictConfig, callbacks: list[Any], loggers: list[Any]) -> L.Trainer:
    """Instantiate the trainer with the strategy's devices; it writes checkpoints whole."""
    settings = dict(cfg.strategy)
    plugins: list[Any] = [BatchNormSync()] if settings.pop("sync_batch_norm", False) else []
    # Whatever else this machine's environment looks like: in a shell of SLURM one is one, too.
    if processes.is_started() or processes.world_size() == 1:
        plugins.append(LightningEnvironment())
    trainer = instantiate(
        cfg.trainer,
        callbacks=callbacks,
        logger=loggers,
        plugins=plugins,
        **settings,
        _convert_="all",
    )
    trainer.strategy.checkpoint_io = AtomicCheckpointIO()
    return trainer


def join_process_group(trainer: L.Trainer) -> None:
    """Connect the processes of a run, before one of them is busy for long."""
    if trainer.world_size > 1:
        trainer.strategy.setup_environment()


def print_metrics(metrics: dict[str, float], split: str, title: str) -> None:
    """Print the metrics of a split as one table, a row a direction."""
    names = ["R1", "R5", "R10", "mAP", "mAP_trapezoid", "mINP"]
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("direction")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    rows = {"text to image": "", "image to text": "i2t_"}
    for label, prefix in rows.items():
        values = [metrics.get(f"{split}/{prefix}{name}") for name in names]
        if any(value is not None for value in values):
            table.add_row(label, *("-" if v is None else f"{v:.2f}" for v in values))
    own_removed = [metrics.get(f"{split}/{n}_wm") for n in names]
    if any(value is not None for value in own_removed):
        table.add_row(
            "text to image *",
            *("-" if v is None else f"{v:.2f}" for v in own_removed),
        )
        table.caption = "* without the image that the caption was written for"
        table.caption_justify = "left"
    Console(highlight=False).print(table)


def show_warnings_in_one_line() -> None:
    """Print warnings from now on without their place in the code."""
    warnings.showwarning = _print_warning


def clear_errors(entry: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Turn an error about the user's input into one message and exit code 1.

    The full traceback is shown with `TIREID_TRACEBACK=1`. Errors of other kinds, which may be
    ours, keep theirs. Warnings are printed as one line, without their place in the code.
    """

    @functools.wraps(entry)
    def guarded(cfg: DictConfig) -> Any:
        show_warnings_in_one_line()
        try:
            return entry(cfg)
        except Exception as error:
            message = clear_message(error)
            if message is None:
                raise
            if processes.is_first_to_say(message):
                console = Console(stderr=True, highlight=False, soft_wrap=True)
                console.print("[bold red]error:[/bold red] ", end="")
                console.print(message, markup=False)
                console.print(f"{TRACEBACK_VARIABLE}=1 shows where it was raised.", style="dim")
            sys.exit(1)

    return guarded


def clear_message(error: Exception) -> str | None:
    """Return all that is to be said of an error about the user's input, or of a lost process.

    None for errors of other kinds, and for all with `TIREID_TRACEBACK=1`.
    """
    if os.environ.get(TRACEBACK_VARIABLE):
        return None
    cause = root_cause(error)
    if isinstance(error, InstantiationException) and isinstance(cause, TypeError):
        cause = error  # a value of a wrong type; Hydra's message names the setting
    if isinstance(cause, (*BAD_INPUT, *SETTINGS_ERRORS)):
        return str(cause).strip() or type(cause).__name__
    return processes.lost_contact(error)


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


def chosen_checkpoint(cfg: DictConfig, callbacks: list[Any]) -> str:
    """Return the path of the checkpoint that `selection` names.

    Raises:
        ValueError: If no callback wrote it.
    """
    for callback in callbacks:
        if isinstance(callback, (ModelCheckpoint, LastCheckpoint)):
            monitored = callback.monitor is not None
            if monitored == (cfg.selection != "last") and callback.best_model_path:
                return callback.best_model_path
    raise ValueError(
        f"selection={cfg.selection}: no checkpoint was written for it; "
        "keep callbacks.checkpoint (val, test) or callbacks.last (last)"
    )


def check_scalars(cfg: DictConfig) -> None:
    """Check the root's scalars before anything is built; let `selection=test` validate on test.

    Raises:
        ValueError: Names the setting, its value, what was expected and what to type.
    """
    if cfg.selection == "test":
        cfg.validation_split = "test"
    monitors = [f"{cfg.validation_split}/{name}" for name in MONITORS]
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
            cfg.monitor in monitors,
            f"a metric of what is validated, one of {', '.join(monitors)}",
        ),
    }
    for name, (good, expected) in checks.items():
        if not good:
            raise ValueError(f"{name}: expected {expected}, got {cfg[name]!r}; set {name}=...")


def use_fast_matmul() -> None:
    """Allow TensorFloat-32 in matrix products on GPUs; ranking is in float64 and not touched."""
    torch.set_float32_matmul_precision("high")
