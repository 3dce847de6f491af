"""The first stage of a distillation: train a teacher or take a given one, and what it says."""

import copy
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from jaxtyping import Float, Int
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from tireid import launch
from tireid.methods.lcr2s_targets import TargetTable, enrich_split
from tireid.methods.lcr2s_teacher import Lcr2sTeacher
from tireid.restore import load_weights
from tireid.retrieval import evaluate_embeddings

TEACHER_SEED = 1_000_003  # added to the run's seed, so that the teacher's draws are its own
SETTINGS = ("model.teacher", "image_encoder", "text_encoder", "dataset.read", "supports", "recipe")


def check_teaching(cfg: DictConfig) -> None:
    """Check the settings of the first stage, before anything is built.

    Raises:
        ValueError: Names the setting, its value and what was expected.
    """
    if cfg.teaching is None:
        return
    if cfg.teaching.targets not in ("once", "each_step"):
        raise ValueError(
            f"teaching.targets: expected once or each_step, got {cfg.teaching.targets!r}"
        )
    epochs = cfg.teaching.max_epochs
    if not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"teaching.max_epochs: expected an integer > 0, got {epochs!r}")
    path = cfg.teaching.checkpoint
    if path is not None and not Path(path).is_file():
        raise FileNotFoundError(
            f"teaching.checkpoint: expected a teacher.ckpt that training left, got {path}"
        )


def needs_teacher(cfg: DictConfig) -> bool:
    """Return whether a run has a first stage: a frozen teacher that something is learned from."""
    if cfg.teaching is None or cfg.model.joint:
        return False
    return bool(cfg.model.feature_weight or cfg.model.relation_weight or cfg.teaching.oracle)


def prepare_teacher(cfg: DictConfig, datamodule: Any, num_train_pids: int) -> Lcr2sTeacher:
    """Return a trained teacher: the given one, the one that this run folder has, or a new one.

    Args:
        cfg: A composed training config with `teaching`.
        datamodule: After `setup("fit")`.
        num_train_pids: Number of training identities.

    Raises:
        ValueError: If a given checkpoint does not fit.
    """
    console = Console(highlight=False, soft_wrap=True)
    folder = Path(cfg.paths.output_dir) / "teacher"
    kept = folder / "teacher.ckpt"
    stage = _stage_config(cfg, folder)
    L.seed_everything(cfg.seed + TEACHER_SEED, workers=True, verbose=False)
    encoders = launch.build_encoders(cfg)
    build = instantiate(stage.model.teacher, _convert_="all")
    teacher = build(num_train_pids=num_train_pids, **encoders)
    if cfg.teaching.checkpoint is not None:
        load_weights(teacher, Path(cfg.teaching.checkpoint))
        console.print(f"teacher: {cfg.teaching.checkpoint}", markup=False)
        return teacher
    settings = _fingerprint(cfg, datamodule)
    if kept.is_file() and _load_if_same(teacher, kept, settings):
        console.print(f"teacher: {kept}, complete already", markup=False)
        return teacher

    folder.mkdir(parents=True, exist_ok=True)
    callbacks = [
        instantiate(stage.callbacks[name], _convert_="all")
        for name in ("retrieval", "lines", "progress", "curves")
        if name in stage.callbacks
    ]
    loggers = list(instantiate(stage.logger, _convert_="all").values())
    trainer = launch.build_trainer(stage, callbacks, loggers)
    datamodule.trainer = trainer
    if trainer.is_global_zero:
        console.print(
            f"[bold]stage 1 of 2: the teacher[/bold], {cfg.teaching.max_epochs} epochs; validated "
            "with empty supports"
        )
    trainer.fit(teacher, datamodule)
    if trainer.is_global_zero:
        _save(teacher, kept, settings)
    trainer.strategy.barrier()
    return teacher


def targets_of(
    teacher: Lcr2sTeacher, cfg: DictConfig, datamodule: Any, device: torch.device
) -> torch.nn.Module:
    """Return what the student follows: the teacher, or a table of what it says of each item."""
    if cfg.teaching.targets == "each_step":
        return teacher
    images, texts = _enriched(teacher, datamodule, "train", device)
    datamodule.supports = None  # what the student's batches need no more
    return TargetTable(images, texts)


def teacher_metrics(
    teacher: Lcr2sTeacher, datamodule: Any, device: torch.device
) -> dict[str, float]:
    """Rank the test split by the teacher: with empty supports, and as an oracle.

    The oracle's supports are drawn from the test identities themselves, so its figures tell what
    the teacher can teach, and are no retrieval result.
    """
    datamodule.setup("test")
    records = datamodule.records("test")
    image_pids = torch.tensor([record.pid for record in records])
    text_pids = torch.tensor([record.pid for record in records for _ in record.captions])
    found: dict[str, float] = {}
    for name, supports in (("empty", False), ("oracle", True)):
        images, texts = _enriched(teacher, datamodule, "test", device, supports=supports)
        values = evaluate_embeddings(
            F.normalize(texts, dim=-1).cpu(),
            F.normalize(images, dim=-1).cpu(),
            text_pids,
            image_pids,
        )
        found |= {f"teacher_{name}/test/{key}": value for key, value in values.items()}
    return found


@torch.no_grad()
def _enriched(
    teacher: Lcr2sTeacher,
    datamodule: Any,
    split: str,
    device: torch.device,
    *,
    supports: bool = True,
) -> tuple[Float[Tensor, "images dim"], Float[Tensor, "texts dim"]]:
    teacher.eval().to(device)
    text_loader, image_loader = datamodule.whole_split(split)
    shown = f"teacher's features of {split}"
    images = torch.cat(
        [teacher.dual.image_features(b.images.to(device)) for b in track(image_loader, shown)]
    )
    texts = torch.cat(
        [
            teacher.dual.text_features(
                b.token_ids.to(device),
                b.valid.to(device),
                None if b.words is None else b.words.to(device),
            )
            for b in track(text_loader, shown)
        ]
    )
    drawn = datamodule.supports_for(split)
    slots: dict[str, Int[Tensor, "items slots"]] = {
        "images": torch.as_tensor(drawn.images, device=device),
        "texts": torch.as_tensor(drawn.texts, device=device),
    }
    if not supports:
        slots = {name: slot[:, :0] for name, slot in slots.items()}
    return (
        enrich_split(teacher.image_fusion, images, slots["images"]),
        enrich_split(teacher.text_fusion, texts, slots["texts"]),
    )


def _stage_config(cfg: DictConfig, folder: Path) -> DictConfig:
    stage = copy.deepcopy(cfg)
    stage.paths.output_dir = str(folder)
    stage.max_epochs = cfg.teaching.max_epochs
    return stage


def _fingerprint(cfg: DictConfig, datamodule: Any) -> str:
    """Return a hash of all that a teacher depends on."""
    content = {
        name: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
        for name in SETTINGS
        if (node := OmegaConf.select(cfg, name)) is not None
    }
    content |= {
        "seed": cfg.seed,
        "max_epochs": cfg.teaching.max_epochs,
        "batch_size": datamodule.batch_size,
        "data": datamodule.fingerprints()["train"],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _save(teacher: Lcr2sTeacher, path: Path, settings: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    torch.save({"state_dict": teacher.state_dict(), "settings": settings}, temporary)
    temporary.replace(path)


def _load_if_same(teacher: Lcr2sTeacher, path: Path, settings: str) -> bool:
    content = torch.load(path, map_location="cpu", weights_only=True)
    if content["settings"] != settings:
        return False
    teacher.load_state_dict(content["state_dict"])
    return True
