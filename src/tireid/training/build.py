"""Build the trainer, and prepare the hardware: compiler, matrix products, process group."""

import os
import shutil
import sys
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from omegaconf import DictConfig
from torch import nn

from tireid.checkpoints.last_checkpoint import AtomicCheckpointIO
from tireid.training import processes
from tireid.training.batch_norm_sync import BatchNormSync

_ATTEND = "with_attention"  # what RDE calls in place of an encoder


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
    for name in ("dual", "teacher"):  # a method may be built around others
        if isinstance(within := getattr(model, name, None), nn.Module):
            compile_model(within)
    for name in ("image_encoder", "text_encoder", "head"):
        if not isinstance(module := getattr(model, name, None), nn.Module):
            continue
        dynamic = None if name == "image_encoder" else True
        module.compile(dynamic=dynamic)
        if hasattr(module, _ATTEND):
            setattr(module, _ATTEND, torch.compile(getattr(module, _ATTEND), dynamic=dynamic))


def build_trainer(cfg: DictConfig, callbacks: list[Any], loggers: list[Any]) -> L.Trainer:
    """Instantiate the trainer with the strategy's devices and atomic checkpoints."""
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
    # Deterministic algorithms also fill memory that nobody has written, to find reads of it. On a
    # GPU that is a third of a step's kernels, and no result depends on it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    return trainer


def join_process_group(trainer: L.Trainer) -> None:
    """Connect the ranks of a run, before one of them is busy for long."""
    if trainer.world_size > 1:
        trainer.strategy.setup_environment()
