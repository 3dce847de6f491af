"""Evaluate a run folder or one of its checkpoints, by the run's own config and tokenizer."""

import json
import warnings
from pathlib import Path
from typing import Any

import hydra
import lightning as L
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import nn

from tireid import launch
from tireid.callbacks.progress import make_progress_bar
from tireid.callbacks.result_gallery import ResultGallery
from tireid.callbacks.retrieval_evaluation import RetrievalEvaluation
from tireid.callbacks.run_record import write_json
from tireid.data.tokenizers import load_tokenizer


def find_run(run: str | None) -> tuple[Path, Path]:
    """Return the run folder and the checkpoint that `run` names.

    A run folder stands for the checkpoint that the run tested or, where it was stopped before
    that, for the best on validation so far.

    Raises:
        ValueError: If `run` is not given.
        FileNotFoundError: If there is no such run or it holds no checkpoint.
    """
    if not run:
        raise ValueError("run: expected a run folder or a checkpoint; set run=runs/...")
    path = Path(str(run))
    if path.is_file():
        folder, checkpoint = path.resolve().parent.parent, path
    else:
        folder = path
        checkpoints = sorted(path.glob("checkpoints/*.ckpt"))
        if not checkpoints:
            raise FileNotFoundError(
                f"{path}: expected a run folder with checkpoints/*.ckpt in it, or a file; "
                "`make train` makes one under runs/"
            )
        record = folder / "metrics.json"
        tested = json.loads(record.read_text()).get("tested_checkpoint") if record.exists() else ""
        checkpoint = folder / "checkpoints" / tested if tested else checkpoints[-1]
    if not (folder / "config.yaml").is_file():
        raise FileNotFoundError(
            f"{folder}: expected config.yaml beside checkpoints/, where training left it"
        )
    return folder, checkpoint


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Load a checkpoint's weights; nothing in the file is executed.

    Raises:
        ValueError: If the file is not a checkpoint of this model.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:
        raise ValueError(
            f"{checkpoint}: expected a checkpoint of a training run, got {type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'an unreadable file'}"
        ) from error
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{checkpoint}: does not fit the run's config.yaml: {error}") from error


def _forget_pretrained(node: Any) -> None:
    """Set every `pretrained` below a config node to False: the checkpoint holds all weights."""
    for name in node:
        if name == "pretrained":
            node[name] = False
        elif isinstance(node[name], DictConfig):
            _forget_pretrained(node[name])


def _warn_of_other_data(folder: Path, datamodule: Any, split: str) -> None:
    record = folder / "metrics.json"
    known = json.loads(record.read_text()).get("data_sha256", {}) if record.exists() else {}
    if known.get(split) not in (None, datamodule.fingerprints()[split]):
        warnings.warn(
            f"the {split} split is not the one this run was trained beside: its figures do not "
            "compare with the run's",
            stacklevel=2,
        )


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
    launch.quiet()
    launch.use_fast_matmul()
    if cfg.split not in ("val", "test"):
        raise ValueError(f"split: expected val or test, got {cfg.split!r}")
    folder, checkpoint = find_run(cfg.run)
    run_cfg: Any = OmegaConf.load(folder / "config.yaml")
    changes: dict[str, Any] = {
        "tokenizer": load_tokenizer(folder / "tokenizer"),
        "validation_split": "val",
    }
    if cfg.batch_size is not None:
        changes["eval_batch_size"] = cfg.batch_size
    if cfg.dataset_root is not None:
        if "root" not in run_cfg.dataset.read:
            raise ValueError(
                f"dataset_root: expected null for a run on {run_cfg.dataset.name}, whose files are "
                f"made where they are missing; got {cfg.dataset_root}"
            )
        run_cfg.dataset.root = run_cfg.dataset.read.root = cfg.dataset_root
    L.seed_everything(run_cfg.seed, workers=True, verbose=False)
    datamodule = launch.build_datamodule(run_cfg, **changes)
    _forget_pretrained(run_cfg.image_encoder)
    _forget_pretrained(run_cfg.text_encoder)
    model = launch.build_model(run_cfg, launch.build_encoders(run_cfg), run_cfg.num_train_pids)
    load_weights(model, checkpoint)

    retrieval = RetrievalEvaluation()
    callbacks: list[Any] = [retrieval, make_progress_bar()]
    if cfg.split == "test":
        gallery = f"gallery_test_{checkpoint.stem}.png"
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
    _warn_of_other_data(folder, datamodule, cfg.split)
    run = trainer.test if cfg.split == "test" else trainer.validate
    run(model, datamodule=datamodule, verbose=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    chosen = launch.CHOSEN[run_cfg.selection]
    title = f"{cfg.split} split, percent ({checkpoint.name}; the run's choice: {chosen})"
    launch.print_metrics(metrics, cfg.split, title)
    result = folder / f"evaluation_{cfg.split}_{checkpoint.stem}.json"
    write_json(result, {"checkpoint": checkpoint.name, "split": cfg.split, "metrics": metrics})
    Console(highlight=False, soft_wrap=True).print(f"written: {result}", markup=False)
    return metrics


@hydra.main(version_base="1.3", config_path=launch.conf_dir(), config_name="evaluate")
@launch.clear_errors
def _hydra_main(cfg: DictConfig) -> None:
    evaluate(cfg)


def main() -> None:
    """Run `tireid-evaluate`."""
    _hydra_main()


if __name__ == "__main__":
    main()
