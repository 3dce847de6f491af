"""Find what a run or an export left, and build its model again; nothing in a file is executed."""

import json
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from safetensors.torch import load_file
from torch import Tensor

from tireid import launch
from tireid.callbacks.checkpoint_io import LAST, PREVIOUS, read_checkpoint
from tireid.data.tokenizers import load_tokenizer
from tireid.encoders.pretrained import misfit
from tireid.methods.base import RetrievalModule
from tireid.saved_config import CONFIG_FILE

WEIGHTS_FILE = "model.safetensors"
RECORD_FILE = "metrics.json"
TOKENIZER_FOLDER = "tokenizer"


def find_run(run: str | None) -> tuple[Path, Path]:
    """Return the run folder and the checkpoint that `run` names.

    A run folder stands for the checkpoint that the run tested or, where it was stopped before
    that, for the best on validation so far.

    Raises:
        ValueError: If `run` is not given, or the run's record cannot be read.
        FileNotFoundError: If there is no such run or it holds no checkpoint.
    """
    if not run:
        raise ValueError("run: expected a run folder or a checkpoint; set run=runs/...")
    path = Path(str(run))
    if path.is_file():
        folder, checkpoint = path.resolve().parent.parent, path
    else:
        folder = path
        checkpoints = sorted(
            path.glob("checkpoints/*.ckpt"), key=lambda c: (c.name not in (LAST, PREVIOUS), c.name)
        )
        if not checkpoints:
            raise FileNotFoundError(
                f"{path}: expected a run folder with checkpoints/*.ckpt in it, or a file; "
                "`make train` makes one under runs/"
            )
        tested = read_record(folder).get("tested_checkpoint")
        checkpoint = folder / "checkpoints" / tested if tested else checkpoints[-1]
        if not checkpoint.is_file():
            raise FileNotFoundError(
                f"{checkpoint}: expected the checkpoint that {folder / RECORD_FILE} names; "
                "give another one by its file"
            )
    if not (folder / CONFIG_FILE).is_file():
        raise FileNotFoundError(
            f"{folder}: expected {CONFIG_FILE} beside checkpoints/, where training left it"
        )
    return folder, checkpoint


def find_saved(path: str | Path) -> tuple[Path, Path]:
    """Return the folder and the weights of an export, of a run, or of one of its checkpoints.

    Raises:
        FileNotFoundError: If `path` is none of them.
    """
    path = Path(path)
    folder = path.parent if path.name == WEIGHTS_FILE else path
    if (folder / WEIGHTS_FILE).is_file():
        return folder, folder / WEIGHTS_FILE
    if not path.is_file() and not (path / "checkpoints").is_dir():
        raise FileNotFoundError(
            f"{path}: expected an exported folder with {WEIGHTS_FILE} in it, a run folder with "
            "checkpoints/, or a checkpoint"
        )
    return find_run(str(path))


def read_record(folder: Path, name: str = RECORD_FILE) -> dict[str, Any]:
    """Return what a JSON file of a folder records; empty where there is none.

    Raises:
        ValueError: If it cannot be read.
    """
    file = folder / name
    if not file.exists():
        return {}
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: expected a run's record in JSON, got {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"{file}: expected a run's record, got a {type(record).__name__}")
    return record


def read_weights(file: Path, entry: str = "state_dict") -> dict[str, Tensor]:
    """Return the weights in a checkpoint or a safetensors file, by name.

    Args:
        file: Checkpoint or safetensors file.
        entry: Where in a checkpoint they stand.

    Raises:
        ValueError: If the file holds none; names it.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = read_checkpoint(file).get(entry)
        if not isinstance(state, dict):
            raise TypeError(f"it has no {entry}")
        if not all(isinstance(value, Tensor) for value in state.values()):
            raise TypeError(f"its {entry} holds other things than tensors")
    except Exception as error:  # Broken files raise nearly anything.
        reason = str(error).splitlines()[0] if str(error) else "an unreadable file"
        raise ValueError(
            f"{file}: expected the weights of a training run, got {type(error).__name__}: "
            f"{reason.removeprefix(f'{file}: ')}"
        ) from error
    return state


def load_weights(model: RetrievalModule, file: Path, entry: str = "state_dict") -> None:
    """Load a file's weights; those that only training needs may be missing, and are left alone.

    Args:
        model: Gets them.
        file: Checkpoint or safetensors file.
        entry: Where in a checkpoint they stand.

    Raises:
        ValueError: If the file holds no weights, or not exactly those of this model.
    """
    expected = _embedding_weights(model, model.state_dict())
    state = _embedding_weights(model, read_weights(file, entry))
    if faults := misfit(expected, state):
        raise ValueError(
            f"{file}: does not fit the {type(model).__name__} of {CONFIG_FILE}: {faults}"
        )
    model.load_state_dict(state, strict=False)


def embedding_weights(model: RetrievalModule) -> dict[str, Tensor]:
    """Return a model's weights by name, without those that only training needs."""
    return _embedding_weights(model, model.state_dict())


def restore_model(cfg: DictConfig, folder: Path, weights: Path) -> RetrievalModule:
    """Build a model from a checked config and load its weights.

    The heads of the training identities are not restored, so their number does not matter. The
    global random generator is left as it was.

    Args:
        cfg: As `tireid.saved_config` gives it.
        folder: Where the config stands, for the message.
        weights: Checkpoint or safetensors file.

    Raises:
        ValueError: If the config is not that of a method, or the weights do not fit it.
    """
    file = folder / CONFIG_FILE
    try:
        with torch.random.fork_rng(devices=[]):
            model = launch.build_model(cfg, launch.build_encoders(cfg), num_train_pids=1)
    except launch.SETTINGS_ERRORS as error:
        raise ValueError(f"{file}: expected a model's settings: {error}") from error
    if not isinstance(model, RetrievalModule):
        raise ValueError(f"{file}: model: expected a method, got a {type(model).__name__}")
    load_weights(model, weights)
    return model


def restore_datamodule(
    cfg: DictConfig, folder: Path, *, batch_size: int | None = None, dataset_root: Any = None
) -> Any:
    """Build a run's data module with the tokenizer that the run left; nothing is read yet.

    Args:
        cfg: As `tireid.saved_config.evaluation_config` gives it; its root is changed in place.
        folder: Of the run.
        batch_size: Images or captions at once; None: the run's.
        dataset_root: Where the data set stands now, if it moved.

    Raises:
        ValueError: If a root is given for data that are made where they are missing.
        FileNotFoundError: If the run left no tokenizer.
    """
    changes: dict[str, Any] = {
        "tokenizer": load_tokenizer(folder / TOKENIZER_FOLDER),
        "validation_split": "val",
    }
    if batch_size is not None:
        changes["eval_batch_size"] = batch_size
    if dataset_root is not None:
        if "root" not in cfg.dataset.read:
            raise ValueError(
                f"dataset_root: expected null for a run on {cfg.dataset.name}, whose files are "
                f"made where they are missing; got {dataset_root}"
            )
        cfg.dataset.root = cfg.dataset.read.root = dataset_root
    return launch.build_datamodule(cfg, **changes)


def _embedding_weights(model: RetrievalModule, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: v for name, v in state.items() if not name.startswith(model.training_only)}
