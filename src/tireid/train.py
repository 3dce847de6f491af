"""Train a method, test the chosen checkpoint, leave a run folder."""

from pathlib import Path
from typing import Any

import hydra
import lightning as L
from hydra.utils import instantiate
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from tireid import launch, sweeps, teaching, transfer
from tireid.callbacks.run_record import RunRecord
from tireid.failures import recorded_failure
from tireid.run_folder import claimed, finished_metrics


def train(cfg: DictConfig) -> dict[str, float]:
    """Run one training as the config says.

    Args:
        cfg: Composed from `conf/train.yaml`.

    Returns:
        Validation metrics of the tested checkpoint and test metrics, in percent.

    Raises:
        ValueError: If a setting is out of its range or the data are not as expected.
        FileNotFoundError: If the data are missing.
    """
    launch.quiet()
    if not (cfg.skip_finished and getattr(rank_zero_only, "rank", 0) == 0):
        _check(cfg)
        return _train(cfg)
    folder = Path(cfg.paths.output_dir)
    console = Console(highlight=False, soft_wrap=True)
    with claimed(folder) as free:
        if not free:
            console.print(f"{folder}: another process is at it", markup=False)
            return {}
        with recorded_failure(folder):
            _check(cfg)
            settings: Any = OmegaConf.to_container(cfg, resolve=True)
            known = finished_metrics(folder, settings)
            if known is not None:
                console.print(f"{folder}: complete already", markup=False)
                return known
            return _train(cfg)


def _check(cfg: DictConfig) -> None:
    launch.check_scalars(cfg)
    teaching.check_teaching(cfg)


def _train(cfg: DictConfig) -> dict[str, float]:
    launch.use_fast_matmul()
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    output_dir = Path(cfg.paths.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False, soft_wrap=True)

    callbacks = list(instantiate(cfg.callbacks, _convert_="all").values())
    loggers = list(instantiate(cfg.logger, _convert_="all").values())
    datamodule = launch.build_datamodule(cfg, **transfer.source_tokenizer(cfg))
    trainer = launch.build_trainer(cfg, callbacks, loggers)
    if cfg.compile and trainer.strategy.root_device.type == "cpu":
        launch.check_compiler()
    datamodule.trainer = trainer
    datamodule.prepare_data()
    datamodule.setup("fit")
    launch.check_splits(cfg, datamodule)
    encoders = launch.build_encoders(cfg)
    launch.cache_words(cfg, datamodule, encoders["text_encoder"], trainer)
    model = launch.build_model(cfg, encoders, datamodule.num_train_pids)
    transfer.init_weights(cfg, model)
    if cfg.compile:
        launch.compile_model(model)

    if trainer.is_global_zero:
        resolved: Any = OmegaConf.to_container(cfg, resolve=True)
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

    taught = teaching.teach(cfg, model, datamodule, trainer)
    for record in callbacks:
        if isinstance(record, RunRecord):
            record.extra = taught
    trainer.fit(model, datamodule)
    checkpoint = launch.chosen_checkpoint(cfg, callbacks)
    trainer.test(model, datamodule, ckpt_path=checkpoint, verbose=False, weights_only=True)

    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    for record in callbacks:
        if isinstance(record, RunRecord):
            metrics = record.metrics
    if trainer.is_global_zero:
        chosen = launch.CHOSEN[cfg.selection]
        launch.print_metrics(
            metrics, "test", f"test split, percent (checkpoint: {chosen}, seed {cfg.seed})"
        )
        teaching.print_teacher(taught)
        written = [p.name for p in sorted(output_dir.iterdir()) if p.suffix in (".json", ".png")]
        console.print(f"{output_dir}: {', '.join(written)}, checkpoints/", markup=False)
    return metrics


def _describe(splits: dict[str, dict[str, int]]) -> str:
    parts = [
        f"{split} {n['ids']:,} people, {n['images']:,} images, {n['captions']:,} captions"
        for split, n in splits.items()
    ]
    return "; ".join(parts)


@hydra.main(version_base="1.3", config_path=launch.conf_dir(), config_name="train")
@launch.clear_errors
def _hydra_main(cfg: DictConfig) -> float | None:
    if sweeps.is_job():
        return sweeps.run_job(cfg)
    sweeps.end_with_sweep()
    return train(cfg).get(cfg.monitor)


def main() -> None:
    """Run `tireid-train`."""
    _hydra_main()


if __name__ == "__main__":
    main()
