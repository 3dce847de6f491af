"""Evaluate a run or a checkpoint by its own config and tokenizer, or a model without its data."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from rich.markup import escape

from tireid.callbacks.progress import make_progress_bar
from tireid.callbacks.query_record import QueryRecord
from tireid.callbacks.result_gallery import ResultGallery
from tireid.callbacks.retrieval_evaluation import RetrievalEvaluation, embeddings_of
from tireid.console import say, silence_expected_warnings
from tireid.data.datamodule import TireidDataModule
from tireid.data.mixed import set_names
from tireid.data.sources import shared_source_warnings
from tireid.data.tokenizers import CaptionTokenizer
from tireid.files import write_json
from tireid.inference.build import allow_tf32, build_datamodule, plain
from tireid.inference.hub import build_hub_model, hub_config, is_hub_model
from tireid.inference.restore import restore_datamodule, restore_model, restore_tokenizer
from tireid.inference.saved_config import evaluation_config, inference_config
from tireid.methods.base import RetrievalModule
from tireid.metrics.values import mean_percent
from tireid.retrieval.collection import SplitEmbeddings
from tireid.retrieval.ensemble import ensemble
from tireid.retrieval.reranking import KReciprocal
from tireid.runs.record import read_record
from tireid.runs.weights import find_run, find_saved, is_export
from tireid.training.devices import lacks_float16
from tireid.training.idle import check_idle_evaluation
from tireid.training.lightning_module import LightningMethod
from tireid.training.summary import CHOSEN, print_by_dataset, print_metrics


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Evaluate one checkpoint, an export, or a hub model without training, on one split.

    Args:
        cfg: Composed from `conf/evaluate.yaml`.

    Returns:
        Metrics in percent, named as in training; of several data sets with their names before.

    Raises:
        ValueError: If a setting is wrong or the checkpoint does not fit.
        FileNotFoundError: If the run or its data are missing.
    """
    silence_expected_warnings()
    if cfg.split not in ("val", "test"):
        raise ValueError(f"split: expected val or test, got {cfg.split!r}")
    for name in ("flip", "rerank"):
        if not isinstance(cfg[name], bool):
            raise ValueError(f"{name}: expected true or false, got {cfg[name]!r}")
    if not isinstance(cfg.ensemble, ListConfig):
        raise ValueError(
            f"ensemble: expected a list of runs, got {cfg.ensemble!r}; set "
            f"'ensemble=[{cfg.ensemble}]'"
        )
    check_idle_evaluation(cfg)
    if cfg.datasets:
        return _evaluate_on_several(cfg)
    return _evaluate_ensemble(cfg) if cfg.ensemble else _evaluate_one(cfg).metrics


class _Evaluated(NamedTuple):
    """What a model has embedded, and its metrics.

    Attributes:
        metrics: In percent, by name.
        embeddings: Those of the split.
        data: Hash of the split.
    """

    metrics: dict[str, float]
    embeddings: SplitEmbeddings
    data: str


def _evaluate_one(cfg: DictConfig) -> _Evaluated:
    if cfg.run and (is_export(cfg.run) or is_hub_model(cfg.run)):
        return _evaluate_without_data(cfg)
    return _evaluate_run(cfg)


def _evaluate_ensemble(cfg: DictConfig) -> dict[str, float]:
    """Evaluate each of several runs, then all by their mean similarity, which is not written."""
    runs = [cfg.run, *cfg.ensemble]
    members: list[_Evaluated] = []
    for run in runs:
        one = cfg.copy()
        one.run, one.ensemble = run, []
        members.append(_evaluate_one(one))
        if members[-1].data != members[0].data:
            raise ValueError(
                f"ensemble: expected runs with one {cfg.split} split, got another of {run} than of "
                f"{cfg.run}; set dataset=... for all of them"
            )
    joined = ensemble([member.embeddings for member in members], cfg.ensemble_weights)
    metrics = {f"{cfg.split}/{name}": value for name, value in joined.metrics().items()}
    shares = "" if cfg.ensemble_weights is None else f", weights {list(cfg.ensemble_weights)}"
    title = f"{cfg.split} split, percent, mean similarity of {len(runs)} runs{shares}"
    print_metrics(metrics, cfg.split, escape(title + _mirrored(cfg)))
    _reranked(joined, cfg)
    return metrics


def _evaluate_on_several(cfg: DictConfig) -> dict[str, float]:
    """Evaluate on each of several data sets, and print the metrics side by side."""
    found: dict[str, dict[str, float]] = {}
    for name, dataset in cfg.datasets.items():
        one = cfg.copy()
        with open_dict(one):
            one.datasets, one.dataset = None, dataset
        found[str(name)] = evaluate(one)
    print_by_dataset(found, cfg.split, escape(f"{cfg.run}, {cfg.split} splits, percent"))
    return {f"{name}/{key}": value for name, of in found.items() for key, value in of.items()}


def _evaluate_run(cfg: DictConfig) -> _Evaluated:
    folder, checkpoint = find_run(cfg.run)
    run = evaluation_config(folder)
    sets = set_names(plain(run)["dataset"])
    trained_on = "+".join(sets)
    other = OmegaConf.select(cfg, "dataset")
    if other is not None:
        for message in shared_source_warnings((name, other.name) for name in sets):
            warnings.warn(message, stacklevel=2)
        run = _on_other_data(run, cfg)
    allow_tf32(run.tf32)
    L.seed_everything(run.seed, workers=True, verbose=False)
    datamodule = restore_datamodule(
        run,
        folder,
        cache_dir=cfg.paths.cache_dir,
        batch_size=cfg.batch_size,
        dataset_root=cfg.dataset_root,
    )
    model = restore_model(run, folder, checkpoint)
    _prepare(datamodule, cfg.split)
    if other is None:
        _warn_of_other_data(folder, datamodule, cfg.split)
    name = f"{cfg.split}_{checkpoint.stem}" + ("_flip" if cfg.flip else "")
    name += "_rerank" if cfg.rerank else ""
    name = name if other is None else f"{other.name}_{name}"
    kept = os.access(folder, os.W_OK)
    callbacks = _callbacks(
        folder, name, checkpoint, run.selection, on_test=kept and cfg.split == "test"
    )
    trainer = _trainer(cfg.accelerator, run.trainer, callbacks)
    metrics = _metrics(trainer, model, datamodule, cfg)

    data = "" if other is None else f" of {run.dataset.name}, trained on {trained_on}"
    shown = escape(f"{cfg.split} split{data}, percent ({checkpoint.name}{_mirrored(cfg)}")
    print_metrics(metrics, cfg.split, f"{shown}; the run's choice: {CHOSEN[run.selection]})")
    record = {"checkpoint": checkpoint.name, "split": cfg.split, "metrics": metrics}
    record |= {"flip": True} if cfg.flip else {}
    embeddings = _embedded(trainer)
    record |= _reranked(embeddings, cfg)
    if other is not None:
        record |= {"dataset": run.dataset.name, "trained_on": trained_on}
    record["data_sha256"] = datamodule.fingerprints()[cfg.split]
    if kept:
        _write(folder / f"evaluation_{name}.json", record)
    else:
        warnings.warn(
            f"{folder} cannot be written to: the metrics above are not kept", stacklevel=2
        )
    return _Evaluated(metrics, embeddings, record["data_sha256"])


def _evaluate_without_data(cfg: DictConfig) -> _Evaluated:
    """Evaluate an export, or a model of the hub as it is; nothing is written.

    Raises:
        ValueError: If no data set is named, or a setting is wrong.
        FileNotFoundError: If the model or the data are missing.
    """
    if OmegaConf.select(cfg, "dataset") is None:
        raise ValueError(
            f"dataset: expected the data set to evaluate {cfg.run} on, got none; set "
            "dataset=synthetic, custom, cuhk_pedes, icfg_pedes or rstpreid"
        )
    model_config, build = _without_data(cfg.run)
    run = _on_other_data(model_config, cfg)
    OmegaConf.update(run, "text_encoder.tokenizer", None, force_add=True)  # the model's own
    run.update({"seed": 0, "batch_size": 1, "validation_split": "val", "paths": cfg.paths})
    allow_tf32(True)
    L.seed_everything(run.seed, workers=True, verbose=False)
    model, tokenizer = build()
    changes = {} if cfg.batch_size is None else {"eval_batch_size": cfg.batch_size}
    datamodule = build_datamodule(run, tokenizer=tokenizer, **changes)
    _prepare(datamodule, cfg.split)
    trainer = _trainer(cfg.accelerator, run.trainer, _progress(cfg.run))
    metrics = _metrics(trainer, model, datamodule, cfg)
    origin = f"trained on {model_config.dataset.name}" if is_export(cfg.run) else "not trained"
    what = f"{cfg.run}, {origin}{_mirrored(cfg)}"
    shown = escape(f"{cfg.split} split of {run.dataset.name}, percent ({what})")
    print_metrics(metrics, cfg.split, shown)
    embeddings = _embedded(trainer)
    _reranked(embeddings, cfg)
    return _Evaluated(metrics, embeddings, datamodule.fingerprints()[cfg.split])


def _without_data(
    source: str,
) -> tuple[DictConfig, Callable[[], tuple[RetrievalModule, CaptionTokenizer]]]:
    """Return the config of an export or a hub's model, and what builds it and its tokenizer."""
    if not is_export(source):
        config = hub_config(source)
        return config, lambda: build_hub_model(config)
    folder, weights = find_saved(source)
    config = inference_config(folder)
    return config, lambda: (
        restore_model(config, folder, weights),
        restore_tokenizer(config, folder),
    )


def _embedded(trainer: L.Trainer) -> SplitEmbeddings:
    embeddings = embeddings_of(trainer)
    if embeddings is None:
        raise RuntimeError("expected embeddings of an evaluation, got none")
    return embeddings


def _reranked(split: SplitEmbeddings, cfg: DictConfig) -> dict[str, Any]:
    """Print the metrics of re-ranked images; return them for the record. Empty if not wanted."""
    if not cfg.rerank:
        return {}
    settings: KReciprocal = instantiate(cfg.reranking, _convert_="all")
    values = mean_percent(settings.query_values(split))
    metrics = {f"{cfg.split}/{name}": value for name, value in values.items()}
    used = {name: value for name, value in cfg.reranking.items() if name != "_target_"}
    shown = ", ".join(f"{name}={value}" for name, value in used.items())
    print_metrics(metrics, cfg.split, f"the same, re-ranked by k-reciprocal neighbours ({shown})")
    return {"reranked": used | {"metrics": metrics}}


def _mirrored(cfg: DictConfig) -> str:
    return ", mean with mirrored images" if cfg.flip else ""


def _prepare(datamodule: TireidDataModule, split: str) -> None:
    datamodule.prepare_data()
    datamodule.setup("test" if split == "test" else "validate")
    datamodule.records(split)  # or a clear error


def _metrics(
    trainer: L.Trainer, model: RetrievalModule, datamodule: TireidDataModule, cfg: DictConfig
) -> dict[str, float]:
    model.flip_images = cfg.flip
    run_split = trainer.test if cfg.split == "test" else trainer.validate
    run_split(LightningMethod(model), datamodule=datamodule, verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def _write(file: Path, record: dict[str, Any]) -> None:
    """Write the record, or warn: the metrics are on the screen."""
    try:
        write_json(file, record)
    except OSError as error:
        warnings.warn(f"{error}; the metrics above are not kept", stacklevel=3)
    else:
        say(f"written: {file}")


def _on_other_data(run: DictConfig, cfg: DictConfig) -> DictConfig:
    """Return a run's config with another data set; images are made as those that it learned.

    Raises:
        ValueError: If the place of the run's own data set is given too.
    """
    if cfg.dataset_root is not None:
        raise ValueError(
            f"dataset_root: expected null with dataset={cfg.dataset.name}, got {cfg.dataset_root}; "
            "set dataset.root=..."
        )
    changed = run.copy()
    changed.dataset = OmegaConf.create(OmegaConf.to_container(cfg.dataset, resolve=True))
    changed.dataset.image_size = run.dataset.image_size
    changed.dataset.decode = run.dataset.get("decode", "pillow")
    return changed


def _warn_of_other_data(folder: Path, datamodule: TireidDataModule, split: str) -> None:
    recorded = read_record(folder).get("data_sha256", {}).get(split)
    if recorded not in (None, datamodule.fingerprints()[split]):
        warnings.warn(
            f"the {split} split is not the one this run was trained beside: its metrics do not "
            "compare with the run's",
            stacklevel=2,
        )


def _progress(weights: object) -> list[Callback]:
    return [RetrievalEvaluation(weights=str(weights)), make_progress_bar()]


def _callbacks(
    folder: Path, name: str, checkpoint: Path, selection: str, *, on_test: bool
) -> list[Callback]:
    callbacks = _progress(checkpoint)
    if on_test:
        callbacks.append(QueryRecord(str(folder), f"queries_{name}.npz", required=False))
        gallery = folder / f"gallery_{name}.png"
        if gallery.is_symlink():  # matplotlib would write to where it leads
            gallery.unlink()
        callbacks.append(ResultGallery(str(folder), gallery.name, selection=selection))
    return callbacks


def _trainer(accelerator: Any, settings: DictConfig, callbacks: list[Callback]) -> L.Trainer:
    precision = settings.precision
    if lacks_float16(accelerator, precision):
        say("trainer.precision=16-mixed needs a GPU: evaluated in float32")
        precision = "32-true"
    return L.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=precision,
        deterministic=settings.get("deterministic"),
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
