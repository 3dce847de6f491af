"""Train a method, test the chosen checkpoint, leave a run folder."""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import lightning as L
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from tireid.callbacks.run_record import RunRecord
from tireid.checkpoints import stop_signals
from tireid.checkpoints.best_checkpoint import BestCheckpoint
from tireid.checkpoints.last_checkpoint import LastCheckpoint
from tireid.console import say, silence_expected_warnings
from tireid.data.annotations import dataset_folder
from tireid.data.datamodule import TireidDataModule
from tireid.files import remove_leftovers, write_json, write_text
from tireid.inference.build import (
    allow_tf32,
    build_datamodule,
    build_encoders,
    build_model,
    plain,
    stage_seed,
)
from tireid.inference.fetching import fetch_missing
from tireid.inference.restore import find_teacher
from tireid.inference.saved_config import packages_to_trust
from tireid.methods.base import RetrievalModule
from tireid.runs.folder import claim, link_latest
from tireid.runs.log import LOG_FILE
from tireid.runs.record import RECORD_FILE
from tireid.runs.settings import CONFIG_FILE, kept_settings, method_name
from tireid.runs.title import run_title
from tireid.runs.weights import TOKENIZER_FOLDER
from tireid.tracking.logger import finish_at_exit, wandb_logger_of
from tireid.training import devices, launcher, processes, resume, teacher, transfer
from tireid.training.build import (
    build_trainer,
    check_compiler,
    compile_model,
    join_process_group,
)
from tireid.training.checks import (
    check_scalars,
    check_selection,
    check_splits,
    check_text_length,
    check_trainer,
)
from tireid.training.command import fetch_command, record_command
from tireid.training.encoders import prepare_encoders
from tireid.training.errors import recorded_failure
from tireid.training.idle import check_idle
from tireid.training.lightning_module import LightningMethod
from tireid.training.signatures import check_signatures
from tireid.training.summary import CHOSEN, chosen_checkpoint, print_metrics
from tireid.training.word_cache import cache_words

BAD_IMAGES_FILE = "bad_images.json"


@dataclass(frozen=True, slots=True)
class _Parts:
    """Everything that a training is run with."""

    model: RetrievalModule
    datamodule: TireidDataModule
    trainer: L.Trainer
    callbacks: list[Callback]


def train(cfg: DictConfig) -> dict[str, float]:
    """Run one training as the config says.

    Args:
        cfg: Composed from `conf/train.yaml`.

    Returns:
        Validation metrics of the tested checkpoint and test metrics, in percent.

    Raises:
        ValueError: If a setting is out of its range or the data are not as expected.
        FileNotFoundError: If the data, or a run to continue, are missing.
        tireid.checkpoints.stop_signals.Stopped: If the process was asked to stop.
    """
    stop_signals.reset()
    silence_expected_warnings()
    recorded = cfg.skip_finished and processes.rank() == 0 and not processes.is_started()
    with recorded_failure(Path(cfg.paths.output_dir)) if recorded else nullcontext():
        check_scalars(cfg)
        check_trainer(cfg)
        check_signatures(cfg)
        teacher.check_teaching(cfg)
        check_idle(cfg)
        if "root" in (reader := cfg.dataset.get("read") or {}):  # before weights are downloaded
            dataset_folder(cfg.dataset.name, reader["root"])
        if not processes.is_started():
            fetch_missing(cfg, fetch_command(), _say)
        count = devices.processes_to_start(cfg)
        if count > 1:
            return launcher.run_in_processes(cfg, count)
        return _train_in_folder(cfg)


def _train_in_folder(cfg: DictConfig, student: Path | None = None) -> dict[str, float]:
    """Train in a run folder that no other process works in, unless it holds the run complete.

    Args:
        cfg: A composed training config.
        student: For a teacher, the run folder of its student. Several students may share a teacher,
            so the run waits for other processes instead of giving way to them.
    """
    settings, wanted = plain(cfg), cfg.ckpt_path
    own = Path(cfg.paths.output_dir)
    folder = processes.decide_on_rank_zero(lambda: resume.find_folder(wanted, own, settings))
    with _held(folder, waits=student is not None) as is_held:
        if not is_held:
            if not cfg.skip_finished:
                raise ValueError(f"{folder}: expected nobody else there, got another process")
            _say(f"{folder}: in use by another process")
            return {}
        metrics = processes.decide_on_rank_zero(
            lambda: resume.find_finished(wanted, folder, settings, skip=cfg.skip_finished)
        )
        if metrics is not None:
            again = "" if cfg.skip_finished else "; ckpt_path=null trains it again"
            _say(f"{folder}: complete already{again}")
            return metrics
        start = processes.decide_on_rank_zero(lambda: resume.find_start(wanted, folder, settings))
        if processes.rank() == 0:
            for written in (folder, folder / "checkpoints"):
                remove_leftovers(written)
            _remove_unused(own, folder)
            if student is None and not start.resumed:
                record_command(folder, source=processes.shared_folder())
        composed = OmegaConf.merge(cfg, {"paths": {"output_dir": str(folder)}})
        if start.resumed:
            for name, value in kept_settings(folder).items():
                OmegaConf.update(composed, name, value)
        return _train(cast(DictConfig, composed), start, student)


@contextmanager
def _held(folder: Path, *, waits: bool) -> Iterator[bool]:
    """Hold a run folder on rank 0 for all ranks; False on all of them if another process has it."""
    if processes.rank() > 0:
        yield processes.decide_on_rank_zero(bool)  # what rank 0 got
        return
    with claim(folder, waits=waits) as is_held:
        yield processes.decide_on_rank_zero(lambda: is_held)


def _remove_unused(own: Path, folder: Path) -> None:
    """Remove the folder that Hydra has made for this run, if the run continues in another."""
    if own.resolve() == folder.resolve() or not own.is_dir():
        return
    if {path.name for path in own.iterdir()} <= {".hydra"}:
        shutil.rmtree(own, ignore_errors=True)


def _train(cfg: DictConfig, start: resume.Start, student: Path | None) -> dict[str, float]:
    """Build, train and test; `cfg` names the run folder, and is resolved here once."""
    run = cast(DictConfig, OmegaConf.create(plain(cfg)))
    allow_tf32(run.tf32)
    L.seed_everything(stage_seed(run), workers=True, verbose=False)
    callbacks: list[Callback] = list(instantiate(run.callbacks, _convert_="all").values())
    loggers = _build_loggers(run.logger, start)
    with finish_at_exit(loggers):
        parts = _build(run, callbacks, loggers)
        resume.check_data(start, parts.datamodule.fingerprints())
        if run.teacher is not None:  # before the folder is that of a run with this teacher
            teacher.check_fits(find_teacher(run.teacher), run, parts.datamodule)
        if parts.trainer.is_global_zero:
            _begin_folder(run, parts, start)
            _introduce(run, parts, start)
        if (tracker := wandb_logger_of(loggers)) is not None:
            tracker.describe(*run_title(plain(run), student or start.folder))
        followed = _follow_teacher(cfg, run, parts, start)
        record = next((c for c in callbacks if isinstance(c, RunRecord)), None)
        if record is not None:
            record.extra = followed
        metrics = _fit_and_test(run, parts, start)
        if record is not None:
            metrics = record.metrics
        if parts.trainer.is_global_zero:
            _summarise(run, metrics, followed, start.folder)
    return metrics


def _build_loggers(config: DictConfig, start: resume.Start) -> list[Logger]:
    continued = resume.logger_arguments(config, start)
    return [
        instantiate(node, **continued[str(name)], _convert_="all") for name, node in config.items()
    ]


def _build(run: DictConfig, callbacks: list[Callback], loggers: list[Logger]) -> _Parts:
    tokenizer = transfer.source_tokenizer(run)
    datamodule = build_datamodule(run, **({} if tokenizer is None else {"tokenizer": tokenizer}))
    trainer = build_trainer(run, callbacks, loggers)
    join_process_group(trainer)
    if run.compile and trainer.strategy.root_device.type == "cpu":
        check_compiler()
    datamodule.trainer = trainer
    datamodule.prepare_data()
    datamodule.setup("fit")
    check_splits(datamodule, run.selection)
    check_selection(run.selection, trainer, len(datamodule.train_dataloader()))
    encoders = build_encoders(run)
    text_encoder = encoders["text_encoder"]
    check_text_length(datamodule.tokenizer, text_encoder)
    cache_words(run.cache_words, run.cache_words_dtype, datamodule, text_encoder, trainer)
    model = build_model(run, encoders, datamodule.num_train_pids)
    if run.init_weights is not None:
        transfer.init_weights(run.init_weights, model)
    names = ("frozen_blocks", "lora_rank", "checkpoint_activations", "micro_batch")
    prepare_encoders(model, **{name: run[name] for name in names})
    model.layer_decay = run.layer_decay
    if run.compile:
        compile_model(model)
    return _Parts(model, datamodule, trainer, callbacks)


def _begin_folder(run: DictConfig, parts: _Parts, start: resume.Start) -> None:
    """Write config and tokenizer; remove what an earlier run left and this one would mix with.

    Name the images that are left out. A resumed run keeps its config, whose hash its checkpoints
    carry.
    """
    if not start.resumed:
        for callback in parts.callbacks:
            if isinstance(callback, LastCheckpoint | BestCheckpoint):
                callback.clear()
        for name in (RECORD_FILE, LOG_FILE, BAD_IMAGES_FILE):
            (start.folder / name).unlink(missing_ok=True)
        write_text(start.folder / CONFIG_FILE, OmegaConf.to_yaml(run))
        link_latest(start.folder)
    if bad := parts.datamodule.bad_images:
        left_out = [{"path": str(path), "reason": reason} for path, reason in bad.items()]
        write_json(start.folder / BAD_IMAGES_FILE, {"left_out_of_training": left_out})
    if start.checkpoint is None:  # which was written after the tokenizer
        parts.datamodule.tokenizer.save(start.folder / TOKENIZER_FOLDER)


def _introduce(run: DictConfig, parts: _Parts, start: resume.Start) -> None:
    """Print what is trained, on what and where."""
    if parts.datamodule.terms:
        say(f"terms of the data: {parts.datamodule.terms}", style="dim")
    splits = [
        f"{split} {n['ids']:,} people, {n['images']:,} images, {n['captions']:,} captions"
        for split, n in parts.datamodule.describe().items()
    ]
    millions = sum(p.numel() for p in parts.model.parameters()) / 1e6
    say(
        f"{method_name(run.model._target_)} on {run.dataset.name}: {'; '.join(splits)}; "
        f"{millions:.1f} M parameters; seed {run.seed}"
    )
    if cut := parts.datamodule.cut_captions():
        say(cut)
    say(f"run folder: {start.folder}")
    if packages := packages_to_trust(plain(run)):
        options = " ".join(f"--trust {package}" for package in packages)
        say(
            f"classes of {', '.join(packages)}: who uses this run needs their code, and has to "
            f"trust it once: tireid evaluate {options} run=..."
        )
    if start.checkpoint is not None:
        say(f"continuing after {start.position}, from {start.checkpoint.name}")


def _follow_teacher(
    cfg: DictConfig, run: DictConfig, parts: _Parts, start: resume.Start
) -> dict[str, Any]:
    """Give a student its teacher, trained first if need be.

    Reseeds afterwards, so the student does not depend on the teacher's draws.

    Args:
        cfg: The composed config, which the teacher's follows from.
        run: The same, resolved.
        parts: What the student is trained with.
        start: Where the student's run begins.

    Returns:
        Entries for the run's record: the teacher's run, its seconds and, if wanted, its metrics.
    """
    if not teacher.needs_teacher(run):
        parts.datamodule.support_batches = parts.model.takes_supports
        return {}
    began = time.perf_counter()
    checkpoint = _teacher_checkpoint(cfg, start)
    data, trainer = parts.datamodule, parts.trainer
    loaded = teacher.load_teacher(checkpoint, run, data, trainer)
    if run.compile:
        compile_model(loaded)
    metrics = teacher.teacher_metrics(loaded, data, trainer) if run.teaching.oracle else {}
    targets = teacher.targets_of(loaded, run.teaching.targets == "each_step", data, trainer)
    parts.model.set_teacher(targets, origin=loaded)  # pyright: ignore[reportCallIssue] -- Lcr2s
    data.support_batches = parts.model.takes_supports
    L.seed_everything(run.seed, workers=True, verbose=False)
    _say("stage 2 of 2: the student")
    seconds = round(time.perf_counter() - began, 2)
    return {"teacher": {"run": str(checkpoint), "seconds": seconds} | metrics}


def _teacher_checkpoint(cfg: DictConfig, start: resume.Start) -> Path:
    """Return the checkpoint of a student's teacher: the given one, or one trained here first."""
    earlier = teacher.earlier_teacher(start.folder) if start.resumed else None
    given = earlier if cfg.teacher is None else cfg.teacher
    if given is None:
        stage = teacher.teacher_config(cfg, start.folder)
        if processes.decide_on_rank_zero(lambda: teacher.is_replaced(stage)):
            stage.ckpt_path, stage.skip_finished = None, False
        _say(f"stage 1 of 2: the teacher, {stage.max_epochs} epochs; validated with empty supports")
        _train_in_folder(stage, start.folder)
        given = stage.paths.output_dir
    checkpoint = processes.decide_on_rank_zero(lambda: find_teacher(given).weights)
    _say(f"teacher: {checkpoint}")
    return checkpoint


def _fit_and_test(run: DictConfig, parts: _Parts, start: resume.Start) -> dict[str, float]:
    trainer, module = parts.trainer, LightningMethod(parts.model)
    checkpoint = None if start.checkpoint is None else str(start.checkpoint)
    with resume.checkpoint_in_errors(start.checkpoint):
        trainer.fit(module, parts.datamodule, ckpt_path=checkpoint, weights_only=True)
    chosen = chosen_checkpoint(run.selection, parts.callbacks)
    trainer.test(module, parts.datamodule, ckpt_path=chosen, verbose=False, weights_only=True)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def _summarise(
    run: DictConfig, metrics: dict[str, float], followed: Mapping[str, Any], folder: Path
) -> None:
    """Print the metrics of the tested checkpoint, and what the run folder holds."""
    model = "teacher with empty supports, " if run.task == "teacher" else ""
    choice = f"checkpoint: {CHOSEN[run.selection]}, seed {run.seed}"
    title = f"{model}test split, percent ({choice})"
    print_metrics(metrics, "test", title, published=run.get("paper"))
    teacher.print_teacher(followed.get("teacher", {}))
    written = [p.name for p in sorted(folder.iterdir()) if p.suffix in (".json", ".png")]
    say(f"{folder}: {', '.join(written)}, checkpoints/")


def _say(line: str) -> None:
    if processes.rank() == 0:
        say(line)
