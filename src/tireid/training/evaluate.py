"""Evaluate a run folder or one of its checkpoints, by the run's own config and tokenizer."""

import warnings
from pathlib import Path
from typing import Any

import lightning as L
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from tireid.callbacks.progress import make_progress_bar
from tireid.callbacks.query_record import QueryRecord
from tireid.callbacks.result_gallery import ResultGallery
from tireid.callbacks.retrieval_evaluation import RetrievalEvaluation
from tireid.console import silence_expected_warnings
from tireid.files import write_json
from tireid.inference.build import use_fast_matmul
from tireid.inference.restore import restore_datamodule, restore_model
from tireid.inference.saved_config import evaluation_config
from tireid.runs.record import read_record
from tireid.runs.weights import find_run
from tireid.training.summary import CHOSEN, print_metrics


def _warn_of_other_data(folder: Path, datamodule: Any, split: str) -> None:
    known = read_record(folder).get("data_sha256", {})
    if known.get(split) not in (None, datamodule.fingerprints()[split]):
        warnings.warn(
            f"the {split} split is not the one this run was trained beside: its figures do not "
            "compare with the run's",
            stacklevel=2,
        )


def _use_data(run_cfg: DictConfig, cfg: DictConfig) -> None:
    """Put another data set into a run's config; the size of an image stays what the run learned.

    Raises:
        ValueError: If its place is given in the way of the run's own data set.
    """
    if cfg.dataset_root is not None:
        raise ValueError(
            f"dataset_root: expected null with dataset={cfg.dataset.name}, got {cfg.dataset_root}; "
            "set dataset.root=..."
        )
    dataset = OmegaConf.create(OmegaConf.to_container(cfg.dataset, resolve=True))
    dataset.image_size = run_cfg.dataset.image_size
    run_cfg.dataset = dataset
    if cfg.paths.cache_dir is not None:
        run_cfg.paths.cache_dir = cfg.paths.cache_dir


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Evaluate one checkpoint on one split.

    Args:
        cfg: Composed from `conf/evaluate.yaml`.

    Returns:
        Metrics in percent, named as in training.

    Raises:
        ValueError: If a setting is wrong or the checkpoint does not fit.
        FileNotFoundError: If the run or its data are missing.
    """
    silence_expected_warnings()
    use_fast_matmul()
    if cfg.split not in ("val", "test"):
        raise ValueError(f"split: expected val or test, got {cfg.split!r}")
    folder, checkpoint = find_run(cfg.run)
    run_cfg = evaluation_config(folder)
    trained_on = run_cfg.dataset.name
    other = OmegaConf.select(cfg, "dataset")
    if other is not None:
        _use_data(run_cfg, cfg)
    L.seed_everything(run_cfg.seed, workers=True, verbose=False)
    datamodule = restore_datamodule(
        run_cfg, folder, batch_size=cfg.batch_size, dataset_root=cfg.dataset_root
    )
    model = restore_model(run_cfg, folder, checkpoint)

    name = f"{cfg.split}_{checkpoint.stem}"
    if other is not None:
        name = f"{other.name}_{name}"
    retrieval = RetrievalEvaluation()
    callbacks: list[Any] = [retrieval, make_progress_bar()]
    if cfg.split == "test":
        gallery = f"gallery_{name}.png"
        callbacks.append(QueryRecord(str(folder), f"queries_{name}.npz"))
        callbacks.append(ResultGallery(str(folder), gallery, selection=run_cfg.selection))
    trainer = L.Trainer(
        accelerator=cfg.accelerator,
        devices=1,
        precision=run_cfg.trainer.precision,
        deterministic=run_cfg.trainer.deterministic,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    datamodule.prepare_data()
    datamodule.setup("test" if cfg.split == "test" else "validate")
    datamodule.records(cfg.split)  # or a clear error
    if other is None:
        _warn_of_other_data(folder, datamodule, cfg.split)
    run = trainer.test if cfg.split == "test" else trainer.validate
    run(model, datamodule=datamodule, verbose=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    chosen = CHOSEN[run_cfg.selection]
    data = f" of {run_cfg.dataset.name}, trained on {trained_on}" if other is not None else ""
    title = f"{cfg.split} split{data}, percent ({checkpoint.name}; the run's choice: {chosen})"
    print_metrics(metrics, cfg.split, title)
    result = folder / f"evaluation_{name}.json"
    record = {"checkpoint": checkpoint.name, "split": cfg.split, "metrics": metrics}
    if other is not None:
        record |= {"dataset": run_cfg.dataset.name, "trained_on": trained_on}
    write_json(result, record | {"data_sha256": datamodule.fingerprints()[cfg.split]})
    Console(highlight=False, soft_wrap=True).print(f"written: {result}", markup=False)
    return metrics
