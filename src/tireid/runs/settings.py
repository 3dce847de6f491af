"""The config of a run: flattened, compared, hashed, and the overrides it was made with."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

CONFIG_FILE = "config.yaml"

# Classes that have moved since earlier versions wrote their names into configs.
_MOVED = {"tireid.methods.lcr2s_teacher.Lcr2sTeacher": "tireid.methods.lcr2s.Lcr2sTeacher"}
# Paths, display and what follows from other settings: they do not change what is learned.
_IGNORED = (
    "paths",
    "split_of_selection",
    "callbacks",
    "logger",
    "skip_finished",
    "ckpt_path",
    "num_train_pids",
    "label",
    "wandb_group",
    "by_dataset",
)
# The recipe repeats them; in earlier versions `recipe=scratch` ignored them.
_REPEATED = ("image_encoder.learning_rate", "text_encoder.learning_rate")
# Settings that earlier versions did not have, and what they did.
_BEFORE = {"tf32": True, "recipe.tf32": True}


def difference(folder: Path, settings: dict[str, Any]) -> str:
    """Return how the saved config of a run folder differs from another config; empty: not at all.

    Raises:
        ValueError: If the saved config cannot be read.
    """
    saved = _BEFORE | _without_repeated(flat_settings(read_settings(folder)))
    wanted = _BEFORE | _without_repeated(flat_settings(settings))
    names = sorted(
        name for name in saved.keys() | wanted.keys() if saved.get(name) != wanted.get(name)
    )
    if not names:
        return ""
    name, more = names[0], len(names) - 1
    others = f" and {more} other difference{'s' if more > 1 else ''}" if more else ""
    return f"{name}={saved.get(name)!r} instead of {wanted.get(name)!r}{others}"


def read_settings(folder: Path) -> dict[str, Any]:
    """Return a folder's config as this version would write it, whichever version wrote it.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it cannot be read.
    """
    current = _current_names(read_config(folder))
    supports = current.pop("supports", None)  # of the data, before the teacher had them
    model = current.get("model")
    teacher = model.get("teacher") if isinstance(model, dict) else None
    if isinstance(supports, dict) and isinstance(teacher, dict):
        for name in ("num_images", "num_texts", "paired"):
            teacher.pop(name, None)
        teacher["supports"] = supports
    if isinstance(teaching := current.get("teaching"), dict) and "checkpoint" in teaching:
        current["teacher"] = teaching.pop("checkpoint")
    return current


def _current_names(node: Any) -> Any:
    if isinstance(node, dict):
        return {str(name): _current_names(value) for name, value in node.items()}
    if isinstance(node, list):
        return [_current_names(value) for value in node]
    return _MOVED.get(node, node) if isinstance(node, str) else node


def read_config(folder: Path) -> dict[str, Any]:
    """Return the config in the folder of a run or an export, as it was written.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it cannot be read.
    """
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder}: expected {CONFIG_FILE} in it, where training or an export leaves it"
        )
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
        json.dumps(config, default=str)  # fails on a node that holds itself
    except (TypeError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{file}: expected a config, got what cannot be read: {reason}") from error
    config = {} if config is None else config  # an empty file
    if not isinstance(config, dict):
        raise ValueError(f"{file}: expected a config, got a {type(config).__name__}")
    return config


def read_overrides(folder: Path) -> list[str]:
    """Return the overrides of a run, from its command line or its sweep; empty if not recorded.

    Overrides of Hydra's own config are left out.
    """
    try:
        content = yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return []
    return own_overrides(content or [])


def own_overrides(overrides: Iterable[Any]) -> list[str]:
    """Return the overrides that are not of Hydra's own config."""
    return [str(text) for text in overrides if not str(text).startswith(("hydra.", "hydra/"))]


def flatten(settings: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """Return a nested config on one level, its names joined by a separator."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            inner = flatten(value, separator)
            flat |= {f"{name}{separator}{key}": inner[key] for key in inner}
        else:
            flat[name] = value
    return flat


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config by dotted name, without paths and display."""
    flat = flatten({name: value for name, value in settings.items() if name not in _IGNORED})
    return {
        name: value
        for name, value in flat.items()
        if value != {} and not name.endswith(("_dir", "dirpath"))
    }


def without_seeds(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return a flat config without its seeds."""
    return {name: value for name, value in flat.items() if name.rsplit(".", 1)[-1] != "seed"}


def _without_repeated(flat: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flat.items() if name not in _REPEATED}


def fingerprint(settings: Mapping[str, Any], *, seeds: bool = True) -> str:
    """Return a hash of a run's config, without paths and display.

    Args:
        settings: The resolved config.
        seeds: Whether runs with different seeds have different hashes.
    """
    flat = flat_settings(settings)
    kept = flat if seeds else _without_repeated(without_seeds(flat))
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
