"""The first stage of LCR2S: the run of a teacher, and what its student learns from it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from jaxtyping import Float
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.utilities import rank_zero_warn
from omegaconf import DictConfig, OmegaConf
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from tireid.data.datamodule import TireidDataModule
from tireid.data.supports import SplitSupports
from tireid.data.tokenizers import load_tokenizer
from tireid.inference.build import plain, stage_seed
from tireid.inference.restore import (
    EARLIER_FILE,
    TEACHER_FOLDER,
    SavedTeacher,
    find_teacher,
    restore_model,
)
from tireid.methods.base import embedding_weights
from tireid.methods.lcr2s import Lcr2sTeacher
from tireid.methods.lcr2s.fusion import is_count
from tireid.methods.lcr2s.targets import TargetTable, enrich_split
from tireid.retrieval import evaluate_embeddings
from tireid.runs.checkpoint import read_checkpoint
from tireid.runs.folder import is_unfinished
from tireid.runs.record import read_record
from tireid.runs.settings import CONFIG_FILE, difference, fingerprint, flat_settings, method_name
from tireid.runs.weights import TOKENIZER_FOLDER, find_run, read_weights
from tireid.training import processes
from tireid.training.checks import check
from tireid.training.summary import print_metrics

_TITLES = {
    "empty": "teacher with empty supports, test split, percent",
    "oracle": (
        "[bold red]ORACLE[/bold red]: teacher with supports from the test identities, percent; "
        "no retrieval result"
    ),
}
# Settings that a trained teacher's features do not depend on.
_TRAINING_ONLY = {
    *("pretrained", "optimizer", "schedule", "learning_rates", "alignment", "frozen"),
    *("alignment_weight", "identity_weight", "use_guidance", "prototype_order"),
    *("drop_path_rate", "dropout", "frozen_dropout"),
}


def check_teaching(cfg: DictConfig) -> None:
    """Check the settings of the first stage, before anything is built.

    Raises:
        ValueError: Names the setting, its value and what was expected.
        FileNotFoundError: If the teacher to follow is not there.
    """
    has_teacher = OmegaConf.select(cfg, "model.teacher") is not None
    if has_teacher != (cfg.teaching is not None):
        expected = "a teacher's training" if has_teacher else "null with a model without a teacher"
        raise ValueError(f"teaching: expected {expected}, got {cfg.teaching}")
    source = OmegaConf.select(cfg, "model.teacher.source") or OmegaConf.select(cfg, "model.source")
    if source == "batch":
        why = "with supports from the batch (source=batch), which are other pairs of it"
        balanced = cfg.dataset.sampler == "identity_balanced"
        pairs = not balanced or cfg.dataset.pairs_per_id >= 2
        checks = {
            "dataset.sampler": (balanced, f"identity_balanced {why}"),
            "dataset.pairs_per_id": (pairs, f"at least 2 {why}"),
        }
        check(checks, cfg)
    if cfg.teaching is None:
        check({"teacher": (cfg.teacher is None, "null without model=lcr2s")}, cfg)
        return
    epochs, factor = cfg.teaching.max_epochs, cfg.teaching.epochs_factor
    from_teacher = cfg.model.init_from_teacher
    checks = {
        "teaching.targets": (cfg.teaching.targets in ("once", "each_step"), "once or each_step"),
        "teaching.selection": (cfg.teaching.selection in ("last", "val"), "last or val"),
        "teaching.oracle": (isinstance(cfg.teaching.oracle, bool), "true or false"),
        "teaching.epochs_factor": (is_count(factor), "an integer > 0"),
        "teaching.max_epochs": (epochs is None or is_count(epochs), "an integer > 0 or null"),
        "init_weights": (
            cfg.init_weights is None or not from_teacher,
            "null with model.init_from_teacher=true, which decides what the student starts from",
        ),
    }
    check(checks, cfg)
    if cfg.model.joint and (cfg.teaching.oracle or cfg.teacher is not None):
        raise ValueError(
            "teaching.oracle, teacher: expected false and null with model.joint=true, whose "
            f"teacher is trained along, got {cfg.teaching.oracle} and {cfg.teacher}"
        )
    if cfg.teacher is not None and not Path(cfg.teacher).exists():
        raise FileNotFoundError(
            f"teacher: expected a run of model=lcr2s_teacher or its checkpoint, got {cfg.teacher}"
        )


def needs_teacher(cfg: DictConfig) -> bool:
    """Return whether a run has a first stage: a frozen teacher that something is learned from."""
    if cfg.teaching is None or cfg.model.joint:
        return False
    model = cfg.model
    followed = model.feature_weight or model.relation_weight or model.init_from_teacher
    return bool(followed or cfg.teaching.oracle)


def teacher_config(cfg: DictConfig, student: Path) -> DictConfig:
    """Return the config of the run that trains a student's teacher.

    It is the student's but for what is set here: the vocabulary is the student's, and a complete
    run is not trained again.

    Args:
        cfg: The student's composed config; not changed.
        student: The student's run folder.
    """
    stage = cast(DictConfig, OmegaConf.create(OmegaConf.to_container(cfg)))
    epochs = cfg.teaching.max_epochs
    stage.max_epochs = cfg.max_epochs * cfg.teaching.epochs_factor if epochs is None else epochs
    teacher = plain(stage.model.teacher)
    del teacher["_partial_"]
    changes = {
        "task": "teacher",
        "label": f"{cfg.label or method_name(cfg.model._target_)} teacher",
        "model": teacher,
        "selection": cfg.teaching.selection,
        "monitor": "val/" + cfg.monitor.split("/", 1)[1],
        "vocabulary": cfg.init_weights if cfg.vocabulary is None else cfg.vocabulary,
        "init_weights": None,
        "teaching": None,
        "skip_finished": True,
        "ckpt_path": None if cfg.ckpt_path is None else "auto",
    }
    for name, value in changes.items():
        stage[name] = value
    for name in ("paper", "expected"):  # of the student's results
        stage.pop(name, None)
    stage.paths.output_dir = str(student / TEACHER_FOLDER)
    if cfg.teaching.shared_dir is not None:
        name = fingerprint(plain(stage) | {"seed": stage_seed(stage)})[:16]
        stage.paths.output_dir = str(Path(cfg.teaching.shared_dir) / name)
    return stage


def earlier_teacher(student: Path) -> Path | None:
    """Return the teacher that an earlier version, to which it was no run, left with a student."""
    folder = student / TEACHER_FOLDER
    is_earlier = (folder / EARLIER_FILE).is_file() and not (folder / CONFIG_FILE).is_file()
    return folder / EARLIER_FILE if is_earlier else None


def is_replaced(stage: DictConfig) -> bool:
    """Return whether a teacher's folder holds another run, or a complete one that is damaged."""
    folder = Path(stage.paths.output_dir)
    if not (folder / CONFIG_FILE).is_file():
        return False
    if difference(folder, plain(stage)):
        return True
    try:
        if not is_unfinished(folder):
            read_checkpoint(find_run(str(folder))[1])
    except (ValueError, FileNotFoundError) as error:
        rank_zero_warn(f"{error}; the teacher is trained again")
        return True
    return False


def load_teacher(
    run: str | Path, student: DictConfig, datamodule: TireidDataModule, trainer: L.Trainer
) -> Lcr2sTeacher:
    """Load a trained teacher that fits a student.

    The heads of its identities come along where the data are the same.

    Args:
        run: What `find_teacher` takes.
        student: The student's resolved config.
        datamodule: The student's data, after `setup`.
        trainer: The student's trainer; its precision is the teacher's.

    Raises:
        ValueError: If it is no teacher, or its features would mean something else.
    """
    saved = find_teacher(run)
    check_fits(saved, student, datamodule)
    model = restore_model(
        saved.config, saved.folder, saved.weights, num_train_pids=datamodule.num_train_pids
    )
    teacher = cast(Lcr2sTeacher, trainer.precision_plugin.convert_module(model))
    data = read_record(saved.folder).get("data_sha256", {}).get("train")
    is_same = data == datamodule.fingerprints()["train"]
    if data is not None and not is_same:
        rank_zero_warn(
            f"teacher: {saved.weights} was trained on other images or captions "
            f"({saved.config.dataset.name}) than the student's; the heads of its identities are "
            "left out"
        )
    state = read_weights(saved.weights)
    kept = state if is_same else embedding_weights(teacher, state)
    teacher.load_state_dict(kept, strict=is_same)  # again, now in the training's precision
    return teacher


def check_fits(saved: SavedTeacher, student: DictConfig, datamodule: TireidDataModule) -> None:
    """Check that a teacher's features mean to a student what they meant in the teacher's training.

    Args:
        saved: The teacher.
        student: The student's resolved config.
        datamodule: The student's data, after `setup`.

    Raises:
        ValueError: Names the setting, or the vocabulary, that differs.
    """
    has, wanted = (
        _feature_settings(plain(model), plain(config))
        for model, config in ((saved.config.model, saved.config), (student.model.teacher, student))
    )
    for name in sorted(has.keys() | wanted.keys()):
        if has.get(name) != wanted.get(name):
            raise ValueError(
                f"teacher: {saved.weights} was trained with {name}={has.get(name)!r}, got "
                f"{wanted.get(name)!r}; set it alike, or train another teacher"
            )
    vocabulary = load_tokenizer(saved.folder / TOKENIZER_FOLDER).fingerprint()
    if vocabulary != datamodule.tokenizer.fingerprint():
        raise ValueError(
            f"teacher: {saved.weights} knows another vocabulary, learnt from other captions "
            f"({saved.config.dataset.name}), in which words have other numbers; train a teacher on "
            f"this data set, or take its vocabulary: vocabulary={saved.folder}"
        )


def _feature_settings(teacher: Mapping[str, Any], cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a teacher's features depend on, by the names that a student's config has."""
    names = ("fusion", "share_fusion", "source")
    settings: dict[str, Any] = {
        "model": {"dual": teacher["dual"], "teacher": {name: teacher[name] for name in names}},
        "dataset": {
            "image_size": cfg["dataset"]["image_size"],
            "decode": cfg["dataset"].get("decode", "pillow"),
        },
        "text_encoder": {"module": cfg["text_encoder"]["module"]},
        "image_encoder": {
            name: cfg["image_encoder"][name] for name in ("module", "mean", "std", "interpolation")
        },
    }
    return {
        name: value
        for name, value in flat_settings(settings).items()
        if not _TRAINING_ONLY & set(name.split("."))
    }


def targets_of(
    teacher: Lcr2sTeacher, each_step: bool, datamodule: TireidDataModule, trainer: L.Trainer
) -> torch.nn.Module:
    """Return what the student follows: the teacher, or a table of its features of each item."""
    if each_step:
        return teacher.to(trainer.strategy.root_device)
    features = _features(teacher, datamodule, "train", trainer)
    return TargetTable(*_enriched(teacher, features, datamodule.supports_for("train")))


def teacher_metrics(
    teacher: Lcr2sTeacher, datamodule: TireidDataModule, trainer: L.Trainer
) -> dict[str, float]:
    """Rank the test split by the teacher: with empty supports, and as an oracle.

    The oracle's supports are drawn from the test identities themselves, so its metrics tell what
    the teacher can teach, and are no retrieval result.
    """
    datamodule.setup("test")
    records = datamodule.records("test")
    image_pids = torch.tensor([record.pid for record in records])
    text_pids = torch.tensor([record.pid for record in records for _ in record.captions])
    features = _features(teacher, datamodule, "test", trainer)
    slots = datamodule.supports_for("test")
    nothing = SplitSupports(slots.images[:, :0], slots.texts[:, :0])
    metrics: dict[str, float] = {}
    for name, supports in (("empty", nothing), ("oracle", slots)):
        images, texts = _enriched(teacher, features, supports)
        values = evaluate_embeddings(
            F.normalize(texts.float(), dim=-1).cpu(),
            F.normalize(images.float(), dim=-1).cpu(),
            text_pids,
            image_pids,
        )
        metrics |= {f"teacher_{name}/test/{key}": value for key, value in values.items()}
    return metrics


def print_teacher(record: Mapping[str, Any]) -> None:
    """Print the teacher's metrics, if they were asked for, apart from the student's."""
    for name, title in _TITLES.items():
        prefix = f"teacher_{name}/"
        metrics = {k.removeprefix(prefix): v for k, v in record.items() if k.startswith(prefix)}
        if metrics:
            print_metrics(metrics, "test", title)


@torch.no_grad()
def _features(
    teacher: Lcr2sTeacher, datamodule: TireidDataModule, split: str, trainer: L.Trainer
) -> tuple[Float[Tensor, "images dim"], Float[Tensor, "texts dim"]]:
    """Return the un-fused features of a split, not normalised; mixed precision is not used."""
    device, plugin = trainer.strategy.root_device, trainer.precision_plugin
    teacher.eval().to(device)
    texts, images = datamodule.whole_split(split)
    dual = teacher.dual

    def batches(loader: Any, content: str) -> Iterator[Any]:
        title = f"teacher: {content} of {split}"
        for batch in track(loader, title, transient=True, disable=processes.rank() > 0):
            yield plugin.convert_input(move_data_to_device(batch, device))

    text_features = [
        dual.text_features(batch.token_ids, batch.valid, batch.words)
        for batch in batches(texts, "captions")
    ]
    image_features = [dual.image_features(batch.images) for batch in batches(images, "images")]
    return torch.cat(image_features), torch.cat(text_features)


def _enriched(
    teacher: Lcr2sTeacher, features: tuple[Tensor, Tensor], supports: SplitSupports
) -> tuple[Float[Tensor, "images dim"], Float[Tensor, "texts dim"]]:
    images, texts = features
    return (
        enrich_split(teacher.image_fusion, images, supports.images.to(images.device)),
        enrich_split(teacher.text_fusion, texts, supports.texts.to(texts.device)),
    )
