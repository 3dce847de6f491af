"""Count the processes that a run needs, from its strategy and the devices of this machine."""

import warnings
from typing import Any

import lightning as L
import torch
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator, MPSAccelerator
from omegaconf import DictConfig, OmegaConf

from tireid.data.samplers import check_batch_size
from tireid.training.processes import is_started, rank, world_size


def processes_to_start(cfg: DictConfig) -> int:
    """Return how many processes a command has to start for a run; 1 means none but itself.

    Args:
        cfg: A composed training config.

    Raises:
        ValueError: If the strategy does not fit how this process was started, or the global batch
            cannot be shared evenly.
    """
    devices, nodes = cfg.strategy.devices, cfg.strategy.num_nodes
    if cfg.trainer.accelerator == "gpu" and not (
        CUDAAccelerator.is_available() or MPSAccelerator.is_available()
    ):
        raise ValueError(
            "trainer.accelerator: expected a GPU, as trainer=gpu asks for, got none that torch "
            "finds on this machine; set trainer=auto, or trainer=cpu with strategy=ddp_cpu for "
            "several processes"
        )
    if devices is None or nodes is None:
        raise ValueError(
            "strategy.devices: expected the number that torchrun (strategy=torchrun) or srun with "
            "--ntasks-per-node (strategy=slurm) tells, got none; start with one of them, or choose "
            "strategy=ddp"
        )
    here = _count_devices(cfg)
    _warn_of_unused_gpus(cfg, here)
    check_batch_size(cfg.batch_size, here * nodes)
    if world_size() > 1 or is_started():
        if world_size() != here * nodes:
            raise ValueError(
                f"strategy: expected the {world_size()} processes that were started, got "
                f"{here} devices on {nodes} nodes; set strategy=torchrun or strategy=slurm"
            )
        return 1
    if nodes > 1:
        raise ValueError(
            f"strategy.num_nodes: expected 1, got {nodes}; several nodes are started by torchrun "
            "(strategy=torchrun) or srun (strategy=slurm)"
        )
    return here


def _count_devices(cfg: DictConfig) -> int:
    devices: Any = cfg.strategy.devices
    if isinstance(devices, int) and devices > 0:
        return devices
    if OmegaConf.is_config(devices):
        devices = OmegaConf.to_container(devices)
    trainer = L.Trainer(
        accelerator=cfg.trainer.accelerator,
        devices=devices,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    if isinstance(trainer.accelerator, CPUAccelerator) and devices == "auto":
        warnings.warn(
            "strategy.devices=auto: no GPU is used, and on a CPU that is one process; "
            "strategy=ddp_cpu starts two, strategy.devices=N starts N",
            stacklevel=2,
        )
    return trainer.num_devices


def _warn_of_unused_gpus(cfg: DictConfig, used: int) -> None:
    """Say that a machine, or a node of a cluster, has more GPUs than a run takes."""
    takes_gpus = cfg.trainer.accelerator in ("auto", "gpu", "cuda")
    visible = torch.cuda.device_count() if takes_gpus else 0
    if used < visible and rank() == 0 and not is_started():
        more = "strategy=ddp uses all" if world_size() == 1 else "start one process for each"
        warnings.warn(
            f"{used} of {visible} visible GPUs in use: {more}; CUDA_VISIBLE_DEVICES hides those "
            "that are not for this run",
            stacklevel=3,
        )


def lacks_float16(accelerator: object, precision: object) -> bool:
    """Return whether scaled float16 is asked for on a CPU, where Lightning takes bfloat16."""
    has_gpu = CUDAAccelerator.is_available() or MPSAccelerator.is_available()
    is_cpu = accelerator == "cpu" or (accelerator == "auto" and not has_gpu)
    return is_cpu and precision == "16-mixed"
