"""Start a training from saved weights (`init_weights`), or from a saved vocabulary."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from tireid.console import say
from tireid.data.tokenizers import CaptionTokenizer, load_tokenizer
from tireid.encoders.pretrained import misfit
from tireid.methods.base import RetrievalModule, embedding_weights
from tireid.runs.settings import CONFIG_FILE, method_name, read_settings
from tireid.runs.weights import TOKENIZER_FOLDER, find_saved, read_weights

_IMAGE_RECIPE = ("mean", "std", "interpolation")


def source_tokenizer(cfg: DictConfig) -> CaptionTokenizer | None:
    """Return the tokenizer of `vocabulary` or, without it, of `init_weights`.

    A vocabulary learnt from other captions gives other ids to the same words, so weights bring
    theirs along.

    Args:
        cfg: A resolved training config.

    Returns:
        None if neither is set: the data set's own.

    Raises:
        FileNotFoundError: If there are no weights or no tokenizer.
        ValueError: If the config asks for another vocabulary, or for another image recipe than
            that of `init_weights`.
    """
    setting = "init_weights" if cfg.vocabulary is None else "vocabulary"
    source = cfg[setting]
    if source is None:
        return None
    folder, _ = find_saved(source)
    tokenizer = load_tokenizer(folder / TOKENIZER_FOLDER)
    recipe = {
        f"text_encoder.tokenizer.{name}": (value, getattr(tokenizer, name))
        for name, value in cfg.text_encoder.tokenizer.items()
        if name in ("vocab_size", "max_length", "keep_sep")
    }
    if cfg.init_weights is not None:
        images = read_settings(find_saved(cfg.init_weights)[0]).get("image_encoder") or {}
        asked: Any = OmegaConf.to_container(cfg.image_encoder)
        recipe |= {
            f"image_encoder.{name}": (asked[name], images[name])
            for name in _IMAGE_RECIPE
            if name in images
        }
    _check_recipe(recipe, f"{setting}={source}")
    return tokenizer


def init_weights(source: str, model: RetrievalModule) -> None:
    """Load saved weights into a new model, all but those of identity heads.

    Args:
        source: Run, checkpoint or export.
        model: Model that was just built.

    Raises:
        FileNotFoundError: If there are no weights.
        ValueError: If they are not those of such a model.
    """
    folder, file = find_saved(source)
    state = read_weights(file)
    kept = embedding_weights(model, state)
    origin = _described(folder)
    if faults := misfit(embedding_weights(model, model.state_dict()), kept):
        raise ValueError(
            f"init_weights: {file}, {origin}, does not fit this "
            f"{method_name(type(model).__name__)}: {faults}; choose model, encoders and sizes as "
            f"in {folder / CONFIG_FILE}"
        )
    model.load_state_dict(kept, strict=False)
    if getattr(rank_zero_only, "rank", 0) == 0:
        left = ", ".join(sorted(state.keys() - kept.keys())) or "none in it"
        say(
            f"weights: {len(kept)} tensors of {file} ({origin}), and its vocabulary; left out, "
            f"the heads of the identities it was trained on: {left}"
        )


def _described(folder: Path) -> str:
    settings = read_settings(folder)
    method = method_name(str((settings.get("model") or {}).get("_target_", "a model")))
    return f"{method} trained on {(settings.get('dataset') or {}).get('name', 'unknown data')}"


def _check_recipe(recipe: Mapping[str, tuple[Any, Any]], source: str) -> None:
    for name, (asked, trained) in recipe.items():
        if asked != trained:
            raise ValueError(
                f"{name}: expected {trained}, as in {source}, got {asked}; set {name}={trained}"
            )
