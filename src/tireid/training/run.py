"""Train a method, test the chosen checkpoint, leave a run folder."""

import shutil
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import lightning as L
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from tireid.callbacks.run_record import RunRecord
from tireid.checkpoints import stop_signals
from tireid.checkpoints.best_checkpoint import BestCheckpoint
from tireid.checkpoints.last_checkpoint import LastCheckpoint
from tireid.console import silence_expected_warnings
from tireid.files import remove_leftovers
from tireid.inference.build import build_datamodule, build_encoders, build_model, use_fast_matmul
from tireid.runs.folder import claimed, finished_metrics
from tireid.runs.title import run_title
from tireid.tracking.logger import finish_at_exit, wandb_logger_of
from tireid.training import launcher, processes, resume, transfer
from tireid.training.build import (
    build_trainer,
    check_compiler,
    compile_model,
    join_process_group,
)
from tireid.training.checks import check_scalars, check_splits
from tireid.training.errors import recorded_failure
from tireid.training.summary import CHOSEN, chosen_checkpoint, print_metrics
from tireid.training.teacher import check_teaching, print_teacher, teach
from tireid.training.word_cache import cache_words


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
        check_teaching(cfg)
        count = launcher.processes_to_start(cfg)
        if count > 1:
            return launcher.run_in_processes(cfg, count)
        return _claim_and_train(cfg)


def _claim_and_train(cfg: DictConfig) -> dict[str, float]:
    own = Path(cfg.paths.output_dir)
    folder = Path(processes.agreed(lambda: str(resume.find_folder(cfg))))
    with ExitStack() as held:
        if not processes.agreed(lambda: held.enter_context(claimed(folder))):
            if not cfg.skip_finished:
                raise ValueError(f"{folder}: expected nobody else there, got another process")
            _say(f"{folder}: another process is at it")
            return {}
        if cfg.skip_finished:
            settings: Any = OmegaConf.to_container(cfg, resolve=True)
            known = processes.agreed(lambda: finished_metrics(folder, settings))
            if known is not None:
                _say(f"{folder}: complete already")
                return known
        start = resume.agreed(lambda: resume.find_start(cfg, folder))
        if processes.rank() == 0:
            for written in (folder, folder / "checkpoints"):
                remove_leftovers(written)
            _leave_nothing(own, folder)
        return _train(cfg, start, held)


def _say(line: str) -> None:
    if processes.rank() == 0:
        Console(highlight=False, soft_wrap=True).print(line, markup=False)


def _leave_nothing(own: Path, folder: Path) -> None:
    """Remove the folder that Hydra has made for this run, if the run continues in another."""
    if own.resolve() == folder.resolve() or not own.is_dir():
        return
    if {path.name for path in own.iterdir()} <= {".hydra"}:
        shutil.rmtree(own, ignore_errors=True)


def _train(cfg: DictConfig, start: resume.Start, held: ExitStack) -> dict[str, float]:
    use_fast_matmul()
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    output_dir = start.folder
    output_dir.mkdir(parents=True, exist_ok=True)
    cfg.paths.output_dir = str(output_dir)
    console = Console(highlight=False, soft_wrap=True)

    callbacks = list(instantiate(cfg.callbacks, _convert_="all").values())
    loggers = list(instantiate(resume.logger_config(cfg, start), _convert_="all").values())
    held.enter_context(finish_at_exit(loggers))
    datamodule = build_datamodule(cfg, **transfer.source_tokenizer(cfg))
    trainer = build_trainer(cfg, callbacks, loggers)
    join_process_group(trainer)
    if cfg.compile and trainer.strategy.root_device.type == "cpu":
        check_compiler()
    datamodule.trainer = trainer
    datamodule.prepare_data()
    datamodule.setup("fit")
    check_splits(cfg, datamodule)
    encoders = build_encoders(cfg)
    cache_words(cfg, datamodule, encoders["text_encoder"], trainer)
    model = build_model(cfg, encoders, datamodule.num_train_pids)
    transfer.init_weights(cfg, model)
    if cfg.compile:
        compile_model(model)

    resolved: Any = OmegaConf.to_container(cfg, resolve=True)
    for last in callbacks:
        if isinstance(last, LastCheckpoint):
            last.settings = resume.fingerprint(resolved)
    if trainer.is_global_zero:
        if not start.resumed:
            _clear(output_dir, callbacks)
        resolved["num_train_pids"] = datamodule.num_train_pids
        OmegaConf.save(resolved, output_dir / "config.yaml")
        datamodule.tokenizer.save(output_dir / "tokenizer")
        if datamodule.terms:
            console.print(f"terms of the data: {datamodule.terms}", style="dim")
        millions = sum(p.numel() for p in model.parameters()) / 1e6
        console.print(
            f"[bold]{type(model).__name__}[/bold] on [bold]{cfg.dataset.name}[/bold]: "
            f"{_describe(datamodule.describe())}; {millions:.1f} M parameters; seed {cfg.seed}"
        )
        console.print(f"run folder: {output_dir}", markup=False)
        if start.checkpoint is not None:
            console.print(
                f"continuing after {start.place}, from {start.checkpoint.name}", markup=False
            )

    if (tracker := wandb_logger_of(loggers)) is not None:
        tracker.describe(*run_title(resolved, output_dir))
    taught = teach(cfg, model, datamodule, trainer)
    for record in callbacks:
        if isinstance(record, RunRecord):
            record.extra = taught
    with resume.naming(start.checkpoint):
        trainer.fit(model, datamodule, ckpt_path=start.checkpoint, weights_only=True)
    checkpoint = chosen_checkpoint(cfg, callbacks)
    trainer.test(model, datamodule, ckpt_path=checkpoint, verbose=False, weights_only=True)

    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    for record in callbacks:
        if isinstance(record, RunRecord):
            metrics = record.metrics
    if trainer.is_global_zero:
        chosen = CHOSEN[cfg.selection]
        print_metrics(
            metrics, "test", f"test split, percent (checkpoint: {chosen}, seed {cfg.seed})"
        )
        print_teacher(taught)
        written = [p.name for p in sorted(output_dir.iterdir()) if p.suffix in (".json", ".png")]
        console.print(f"{output_dir}: {', '.join(written)}, checkpoints/", markup=False)
    return metrics


def _clear(folder: Path, callbacks: list[Any]) -> None:
    """Remove what an earlier run of this folder has left and this one would mix with its own."""
    for callback in callbacks:
        if isinstance(callback, LastCheckpoint):
            callback.clear()
        elif isinstance(callback, BestCheckpoint):
            callback.remove_superseded(all_of_them=True)
    (folder / "metrics.json").unlink(missing_ok=True)


def _describe(splits: dict[str, dict[str, int]]) -> str:
    parts = [
        f"{split} {n['ids']:,} people, {n['images']:,} images, {n['captions']:,} captions"
        for split, n in splits.items()
    ]
    return "; ".join(parts)
