"""Start a training from weights that were trained before, on other data: `init_weights`."""

from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from tireid.data.tokenizers import SavedTokenizer, load_tokenizer
from tireid.encoders.pretrained import misfit
from tireid.inference.saved_config import read_settings
from tireid.methods.base import RetrievalModule
from tireid.runs.settings import CONFIG_FILE
from tireid.runs.weights import TOKENIZER_FOLDER, find_saved, read_weights

_IMAGE_RECIPE = ("mean", "std", "interpolation")


def source_tokenizer(cfg: DictConfig) -> dict[str, Any]:
    """Return the tokenizer that the weights of `init_weights` were trained with.

    A vocabulary learnt from other captions gives other ids to the same words, so the weights'
    own comes along.

    Args:
        cfg: A composed training config.

    Returns:
        The data module's argument `tokenizer`; nothing without `init_weights`.

    Raises:
        FileNotFoundError: If there are no weights or no tokenizer.
        ValueError: If the config asks for another vocabulary, or for another image recipe.
    """
    if cfg.init_weights is None:
        return {}
    folder, _ = find_saved(cfg.init_weights)
    tokenizer = load_tokenizer(folder / TOKENIZER_FOLDER)
    _check_recipe(cfg, folder, tokenizer)
    return {"tokenizer": tokenizer}


def init_weights(cfg: DictConfig, model: RetrievalModule) -> None:
    """Load the weights of `init_weights` into a new model, all but those of identity heads.

    Args:
        cfg: A composed training config.
        model: Just built.

    Raises:
        FileNotFoundError: If there are no weights.
        ValueError: If they are not those of such a model.
    """
    if cfg.init_weights is None:
        return
    if OmegaConf.select(cfg, "model.init_from_teacher", default=False):
        raise ValueError(
            f"init_weights: expected null with model.init_from_teacher=true, which decides what "
            f"the student starts from, got {cfg.init_weights}"
        )
    folder, file = find_saved(cfg.init_weights)
    state = read_weights(file)
    heads = sorted(name for name in state if name.startswith(model.training_only))
    kept = {name: value for name, value in state.items() if name not in heads}
    expected = {
        n: v for n, v in model.state_dict().items() if not n.startswith(model.training_only)
    }
    source = _described(folder)
    if faults := misfit(expected, kept):
        raise ValueError(
            f"init_weights: {file}, {source}, does not fit this {type(model).__name__}: {faults}; "
            f"choose model, encoders and sizes as in {folder / CONFIG_FILE}"
        )
    model.load_state_dict(kept, strict=False)
    if getattr(rank_zero_only, "rank", 0) == 0:
        left = ", ".join(heads) if heads else "none in it"
        Console(highlight=False, soft_wrap=True).print(
            f"weights: {len(kept)} tensors of {file} ({source}), and its vocabulary; left out, "
            f"the heads of the identities it was trained on: {left}",
            markup=False,
        )


def _described(folder: Path) -> str:
    settings = read_settings(folder)
    method = str((settings.get("model") or {}).get("_target_", "a model")).rsplit(".", 1)[-1]
    return f"{method} trained on {(settings.get('dataset') or {}).get('name', 'unknown data')}"


def _check_recipe(cfg: DictConfig, folder: Path, tokenizer: SavedTokenizer) -> None:
    asked: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for name in ("vocab_size", "max_length", "keep_sep"):
        if name in cfg.text_encoder.tokenizer:
            asked[f"text_encoder.tokenizer.{name}"] = cfg.text_encoder.tokenizer[name]
            found[f"text_encoder.tokenizer.{name}"] = getattr(tokenizer, name)
    images = read_settings(folder).get("image_encoder") or {}
    for name in _IMAGE_RECIPE:
        if name in images:
            value = cfg.image_encoder[name]
            asked[f"image_encoder.{name}"] = (
                OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            )
            found[f"image_encoder.{name}"] = images[name]
    for name, value in found.items():
        if asked[name] != value:
            raise ValueError(
                f"{name}: expected {value}, with which the weights of init_weights="
                f"{cfg.init_weights} were trained, got {asked[name]}"
            )
