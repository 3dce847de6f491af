"""Restore a model and its data module from a run folder or an export."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from tireid.data.tokenizers import load_tokenizer
from tireid.encoders.pretrained import misfit
from tireid.inference.build import SETTINGS_ERRORS, build_datamodule, build_encoders, build_model
from tireid.methods.base import RetrievalModule
from tireid.runs.settings import CONFIG_FILE
from tireid.runs.weights import TOKENIZER_FOLDER, read_weights


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
        cfg: As `tireid.inference.saved_config` gives it.
        folder: Where the config stands, for the message.
        weights: Checkpoint or safetensors file.

    Raises:
        ValueError: If the config is not that of a method, or the weights do not fit it.
    """
    file = folder / CONFIG_FILE
    try:
        with torch.random.fork_rng(devices=[]):
            model = build_model(cfg, build_encoders(cfg), num_train_pids=1)
    except SETTINGS_ERRORS as error:
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
        cfg: From `tireid.inference.saved_config.evaluation_config`; its root is changed in place.
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
    return build_datamodule(cfg, **changes)


def _embedding_weights(model: RetrievalModule, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: v for name, v in state.items() if not name.startswith(model.training_only)}
