"""The first stage of a distillation: train a teacher or take a given one, and what it says."""

import copy
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from jaxtyping import Float
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.utilities import rank_zero_warn
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from tireid.data.supports import SplitSupports
from tireid.files import folder_lock, remove_leftovers
from tireid.inference.build import build_encoders
from tireid.inference.restore import load_weights
from tireid.inference.saved_config import read_settings
from tireid.methods.lcr2s import Lcr2sTeacher
from tireid.methods.lcr2s.targets import TargetTable, enrich_split
from tireid.retrieval import evaluate_embeddings
from tireid.runs.checkpoint import read_checkpoint
from tireid.runs.title import RunTitle, run_title
from tireid.runs.weights import TOKENIZER_FOLDER, find_saved
from tireid.tracking.logger import finish_at_exit, wandb_logger_of
from tireid.training import processes, resume
from tireid.training.build import build_trainer, compile_model
from tireid.training.summary import print_metrics
from tireid.training.teacher_file import load_given_teacher, write_teacher

TEACHER_SEED = 1_000_003  # added to the run's seed, so that the teacher's draws are its own
SETTINGS = (
    "model.teacher",
    "image_encoder",
    "text_encoder",
    "dataset",
    "supports",
    "recipe",
    "trainer",
)


def check_teaching(cfg: DictConfig) -> None:
    """Check the settings of the first stage, before anything is built.

    Raises:
        ValueError: Names the setting, its value and what was expected.
        FileNotFoundError: If the teacher to start from is not there.
    """
    has_teacher = OmegaConf.select(cfg, "model.teacher") is not None
    if has_teacher != (cfg.teaching is not None):
        expected = "a teacher's training" if has_teacher else "null with a model without a teacher"
        raise ValueError(f"teaching: expected {expected}, got {cfg.teaching}")
    if cfg.teaching is None:
        return
    if cfg.teaching.targets not in ("once", "each_step"):
        raise ValueError(
            f"teaching.targets: expected once or each_step, got {cfg.teaching.targets!r}"
        )
    if not isinstance(cfg.teaching.oracle, bool):
        raise ValueError(f"teaching.oracle: expected true or false, got {cfg.teaching.oracle!r}")
    if cfg.model.joint and (cfg.teaching.oracle or cfg.teaching.checkpoint is not None):
        raise ValueError(
            "teaching: expected oracle=false and checkpoint=null with model.joint=true, whose "
            f"teacher is trained along, got {cfg.teaching.oracle} and {cfg.teaching.checkpoint}"
        )
    if cfg.model.teacher.source == "batch" and cfg.dataset.sampler != "identity_balanced":
        raise ValueError(
            "dataset.sampler: expected identity_balanced with model.teacher.source=batch, whose "
            f"supports are other pairs of the batch, got {cfg.dataset.sampler}"
        )
    if cfg.model.teacher.source == "batch" and cfg.dataset.pairs_per_id < 2:
        raise ValueError(
            "dataset.pairs_per_id: expected at least 2 with model.teacher.source=batch, whose "
            f"supports are other pairs of the batch, got {cfg.dataset.pairs_per_id}"
        )
    factor, epochs = cfg.teaching.epochs_factor, cfg.teaching.max_epochs
    if not _is_count(factor):
        raise ValueError(f"teaching.epochs_factor: expected an integer > 0, got {factor!r}")
    if epochs is not None and not _is_count(epochs):
        raise ValueError(f"teaching.max_epochs: expected an integer > 0 or null, got {epochs!r}")
    path = cfg.teaching.checkpoint
    if path is not None and not Path(path).is_file():
        raise FileNotFoundError(
            f"teaching.checkpoint: expected a teacher.ckpt that training left, got {path}"
        )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def teach(
    cfg: DictConfig, model: Any, datamodule: Any, trainer: L.Trainer
) -> dict[str, dict[str, float]]:
    """Give a student its teacher, if the config says that it has one.

    Afterwards chance begins anew from the run's seed, whatever the teacher has drawn.

    Args:
        cfg: A composed training config.
        model: The student.
        datamodule: After `setup("fit")`.
        trainer: The student's.

    Returns:
        For the run's record: the teacher's seconds and, if asked for, its metrics.
    """
    if cfg.teaching is None:
        return {}
    encoded = cfg.model.teacher.source == "dataset"
    datamodule.support_batches = encoded and (cfg.model.joint or needs_teacher(cfg))
    if not needs_teacher(cfg):
        return {}
    began = time.perf_counter()
    teacher = prepare_teacher(cfg, datamodule, trainer)
    found: dict[str, float] = {}
    if cfg.teaching.oracle:
        found = teacher_metrics(teacher, datamodule, trainer)
    model.set_teacher(targets_of(teacher, cfg, datamodule, trainer), origin=teacher)
    datamodule.trainer = trainer
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    if trainer.is_global_zero:
        Console(highlight=False).print("[bold]stage 2 of 2: the student[/bold]")
    return {"teacher": {"seconds": round(time.perf_counter() - began, 2)} | found}


def needs_teacher(cfg: DictConfig) -> bool:
    """Return whether a run has a first stage: a frozen teacher that something is learned from."""
    if cfg.teaching is None or cfg.model.joint:
        return False
    model = cfg.model
    followed = model.feature_weight or model.relation_weight or model.init_from_teacher
    oracle: bool = cfg.teaching.oracle
    return bool(followed or oracle)


def prepare_teacher(cfg: DictConfig, datamodule: Any, trainer: L.Trainer) -> Lcr2sTeacher:
    """Return a trained teacher: the given one, one kept with the same settings, or a new one.

    Args:
        cfg: A composed training config with `teaching`.
        datamodule: After `setup("fit")`.
        trainer: The student's; its precision is the teacher's.

    Raises:
        ValueError: If a given checkpoint does not fit.
    """
    console = Console(highlight=False, soft_wrap=True, quiet=processes.rank() > 0)
    settings = _fingerprint(cfg, datamodule)
    folder = Path(cfg.paths.output_dir) / "teacher"
    if cfg.teaching.shared_dir is not None:
        folder = Path(cfg.teaching.shared_dir) / settings[:16]
    stage = _stage_config(cfg, folder)
    L.seed_everything((cfg.seed + TEACHER_SEED) % 2**32, workers=True, verbose=False)
    encoders = build_encoders(cfg)
    build = instantiate(stage.model.teacher, _convert_="all")
    teacher = build(num_train_pids=datamodule.num_train_pids, **encoders)
    trainer.precision_plugin.convert_module(teacher)  # before weights of that precision are read
    if cfg.compile:
        compile_model(teacher)
    if cfg.teaching.checkpoint is not None:
        load_given_teacher(teacher, Path(cfg.teaching.checkpoint), cfg, datamodule)
        console.print(f"teacher: {cfg.teaching.checkpoint}", markup=False)
        return teacher
    with _alone(folder):
        kept = folder / "teacher.ckpt"
        for written in (folder, folder / "checkpoints"):
            _remove_leftovers(written)
        if processes.agreed(lambda: kept.is_file() and _load_if_same(teacher, kept, settings)):
            if processes.rank() > 0:
                _load_if_same(teacher, kept, settings)
            console.print(f"teacher: {kept}, complete already", markup=False)
        else:
            resolved: Any = OmegaConf.to_container(cfg, resolve=True)
            title = run_title(resolved, Path(cfg.paths.output_dir), teacher=True)
            _train(teacher, stage, datamodule, kept, settings, title)
    return teacher


def find_teacher(
    cfg: DictConfig, folder: Path, datamodule: Any, given: str | None = None
) -> Path | None:
    """Return the checkpoint of the teacher that a run followed; None: it is not there.

    Args:
        cfg: Of the run, as `tireid.inference.saved_config.evaluation_config` gives it.
        folder: Of the run.
        datamodule: After `setup`; of the run's data.
        given: The checkpoint, where the caller knows it.

    Raises:
        FileNotFoundError: If `given` is no file.
    """
    if given is not None:
        if not Path(given).is_file():
            raise FileNotFoundError(f"teacher: expected a teacher.ckpt, got {given}")
        return Path(given)
    kept: Any = cfg.teaching  # of runs made before a key was there, without it
    if kept.get("checkpoint") is not None:
        path = Path(kept["checkpoint"])
    elif kept.get("shared_dir") is not None:
        settings = _fingerprint(OmegaConf.create(read_settings(folder)), datamodule)
        path = Path(kept["shared_dir"]) / settings[:16] / "teacher.ckpt"
    else:
        path = folder / "teacher" / "teacher.ckpt"
    return path if path.is_file() else None


def restore_teacher(cfg: DictConfig, folder: Path, path: Path) -> Lcr2sTeacher:
    """Build a run's teacher from its checked config and load its weights, as `restore_model` does.

    Args:
        cfg: As `tireid.inference.saved_config.evaluation_config` gives it.
        folder: Where the config stands, for the message.
        path: A teacher's file or, of joint training, a checkpoint of the run, which holds both.

    Raises:
        ValueError: If the weights do not fit it, or the config describes no teacher.
    """
    with torch.random.fork_rng(devices=[]):
        build = instantiate(cfg.model.teacher, _convert_="all")
        teacher = build(num_train_pids=1, **build_encoders(cfg))
    if not isinstance(teacher, Lcr2sTeacher):
        raise ValueError(f"{folder}: expected the config of a teacher, got {type(teacher)}")
    load_weights(teacher, path, "teacher" if cfg.model.joint else "state_dict")
    return teacher


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a teacher's folder: of runs that share it, one trains, the others wait for it."""
    folder.mkdir(parents=True, exist_ok=True)
    if processes.rank() > 0:
        yield
        return

    def say() -> None:
        Console(highlight=False, soft_wrap=True).print(
            f"teacher: another process is at {folder}; waiting for it", markup=False
        )

    with folder_lock(folder / ".lock", on_wait=say):
        yield


def _train(
    teacher: Lcr2sTeacher,
    stage: DictConfig,
    datamodule: Any,
    kept: Path,
    settings: str,
    title: RunTitle,
) -> None:
    callbacks = {
        name: instantiate(stage.callbacks[name], _convert_="all")
        for name in ("retrieval", "last", "finite", "rates", "lines", "progress", "curves")
        if name in stage.callbacks
    }
    last = callbacks.get("last")
    begun = stage.ckpt_path is not None and last is not None
    start = resume.Start(kept.parent)
    if begun:
        start = resume.agreed(lambda: resume.newest(kept.parent, settings))
    loggers = list(instantiate(resume.logger_config(stage, start), _convert_="all").values())
    if (tracker := wandb_logger_of(loggers)) is not None:
        tracker.job_type = "teacher"
        tracker.describe(*title)
    if last is None:  # else Lightning adds one of its own
        OmegaConf.update(stage, "trainer.enable_checkpointing", False, force_add=True)
    else:
        last.settings = settings
    trainer = build_trainer(stage, list(callbacks.values()), loggers)
    datamodule.trainer = trainer
    if trainer.is_global_zero:
        console = Console(highlight=False, soft_wrap=True)
        console.print(
            f"[bold]stage 1 of 2: the teacher[/bold], {stage.max_epochs} epochs; validated "
            "with empty supports"
        )
        if start.checkpoint is not None:
            console.print(f"continuing after {start.place}, from {start.checkpoint}", markup=False)
    with (
        finish_at_exit(loggers),
        resume.naming(start.checkpoint),
    ):  # ends before the student's run begins
        trainer.fit(teacher, datamodule, ckpt_path=start.checkpoint, weights_only=True)
    if trainer.is_global_zero:
        write_teacher(teacher, kept, settings, stage, datamodule)
        if last is not None:
            last.clear()
    trainer.strategy.barrier()


def targets_of(
    teacher: Lcr2sTeacher, cfg: DictConfig, datamodule: Any, trainer: L.Trainer
) -> torch.nn.Module:
    """Return what the student follows: the teacher, or a table of what it says of each item."""
    if cfg.teaching.targets == "each_step":
        return teacher
    features = _features(teacher, datamodule, "train", trainer)
    images, texts = _enriched(teacher, features, datamodule.supports_for("train"))
    datamodule.support_batches = False
    return TargetTable(images, texts)


def teacher_metrics(teacher: Lcr2sTeacher, datamodule: Any, trainer: L.Trainer) -> dict[str, float]:
    """Rank the test split by the teacher: with empty supports, and as an oracle.

    The oracle's supports are drawn from the test identities themselves, so its figures tell what
    the teacher can teach, and are no retrieval result.
    """
    datamodule.setup("test")
    records = datamodule.records("test")
    image_pids = torch.tensor([record.pid for record in records])
    text_pids = torch.tensor([record.pid for record in records for _ in record.captions])
    features = _features(teacher, datamodule, "test", trainer)
    slots = datamodule.supports_for("test")
    nothing = SplitSupports(slots.images[:, :0], slots.texts[:, :0])
    found: dict[str, float] = {}
    for name, supports in (("empty", nothing), ("oracle", slots)):
        images, texts = _enriched(teacher, features, supports)
        values = evaluate_embeddings(
            F.normalize(texts.float(), dim=-1).cpu(),
            F.normalize(images.float(), dim=-1).cpu(),
            text_pids,
            image_pids,
        )
        found |= {f"teacher_{name}/test/{key}": value for key, value in values.items()}
    return found


def print_teacher(taught: dict[str, dict[str, float]]) -> None:
    """Print the teacher's metrics, if they were asked for, apart from the student's."""
    metrics = taught.get("teacher", {})
    for name, title in (
        ("empty", "teacher with empty supports, test split, percent"),
        (
            "oracle",
            "[bold red]ORACLE[/bold red]: teacher with supports from the test identities, percent; "
            "no retrieval result",
        ),
    ):
        prefix = f"teacher_{name}/"
        found = {k.removeprefix(prefix): v for k, v in metrics.items() if k.startswith(prefix)}
        if found:
            print_metrics(found, "test", title)


@torch.no_grad()
def _features(
    teacher: Lcr2sTeacher, datamodule: Any, split: str, trainer: L.Trainer
) -> tuple[Float[Tensor, "images dim"], Float[Tensor, "texts dim"]]:
    """Return the un-fused features of a split, not normalised; mixed precision is not used."""
    device, plugin = trainer.strategy.root_device, trainer.precision_plugin
    teacher.eval().to(device)
    loaders = datamodule.whole_split(split)
    quiet = processes.rank() > 0
    dual = teacher.dual

    def batches(loader: Any, what: str) -> Iterator[Any]:
        title = f"teacher: {what} of {split}"
        for batch in track(loader, title, transient=True, disable=quiet):
            yield plugin.convert_input(move_data_to_device(batch, device))

    text_features = [
        dual.text_features(batch.token_ids, batch.valid, batch.words)
        for batch in batches(loaders[0], "captions")
    ]
    image_features = [dual.image_features(b.images) for b in batches(loaders[1], "images")]
    return torch.cat(image_features), torch.cat(text_features)


def _enriched(
    teacher: Lcr2sTeacher, features: tuple[Tensor, Tensor], supports: SplitSupports
) -> tuple[Float[Tensor, "images dim"], Float[Tensor, "texts dim"]]:
    images, texts = features
    return (
        enrich_split(teacher.image_fusion, images, supports.images.to(images.device)),
        enrich_split(teacher.text_fusion, texts, supports.texts.to(texts.device)),
    )


def _epochs(cfg: DictConfig) -> int:
    epochs = cfg.teaching.max_epochs
    return cfg.max_epochs * cfg.teaching.epochs_factor if epochs is None else epochs


def _stage_config(cfg: DictConfig, folder: Path) -> DictConfig:
    stage = copy.deepcopy(cfg)
    stage.paths.output_dir = str(folder)
    stage.max_epochs = _epochs(cfg)
    return stage


def _fingerprint(cfg: DictConfig, datamodule: Any) -> str:
    """Return a hash of all that a teacher depends on."""
    content: dict[str, Any] = {
        name: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
        for name in SETTINGS
        if (node := OmegaConf.select(cfg, name)) is not None
    }
    for name in ("default_root_dir", "max_epochs"):  # the folder, and the student's epochs
        del content["trainer"][name]
    content |= {
        "seed": cfg.seed,
        "max_epochs": _epochs(cfg),
        "batch_size": datamodule.batch_size,
        "data": datamodule.fingerprints()["train"],
    }
    if cfg.init_weights is not None:  # with which another vocabulary came
        vocabulary = find_saved(cfg.init_weights)[0] / TOKENIZER_FOLDER / "tokenizer.json"
        content["vocabulary"] = hashlib.sha256(vocabulary.read_bytes()).hexdigest()
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _remove_leftovers(folder: Path) -> None:
    if processes.rank() == 0:  # which holds the folder
        remove_leftovers(folder)


def _load_if_same(teacher: Lcr2sTeacher, path: Path, settings: str) -> bool:
    try:
        content = read_checkpoint(path)
    except ValueError as error:
        rank_zero_warn(f"{error}; the teacher is trained again")
        return False
    if content.get("settings") != settings:
        return False
    teacher.load_state_dict(content["state_dict"])
    return True
