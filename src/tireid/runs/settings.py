"""The settings of a run: the saved config, its overrides, differences and hashes."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

CONFIG_FILE = "config.yaml"


# Classes that have moved since earlier versions wrote their names into configs.
_MOVED = {"tireid.methods.lcr2s_teacher.Lcr2sTeacher": "tireid.methods.lcr2s.Lcr2sTeacher"}
# Where things lie, how they are shown and what follows from others: a run is the same without them.
_NOT_SETTINGS = (
    "paths",
    "split_of_selection",
    "callbacks",
    "logger",
    "skip_finished",
    "ckpt_path",
    "num_train_pids",
    "label",
    "wandb_group",
)


def difference(folder: Path, settings: dict[str, Any]) -> str:
    """Return in which settings the run of a folder differs from those asked for; empty: none.

    Raises:
        ValueError: If its settings cannot be read.
    """
    known, asked = flat_settings(current_settings(_written(folder))), flat_settings(settings)
    differing = sorted(
        key for key in known.keys() | asked.keys() if known.get(key) != asked.get(key)
    )
    if not differing:
        return ""
    key, more = differing[0], len(differing) - 1
    others = f" and {more} other difference{'s' if more > 1 else ''}" if more else ""
    return f"{key}={known.get(key)!r} instead of {asked.get(key)!r}{others}"


def current_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return a run's settings as this version would write them, whichever version wrote them."""
    current = _current_names(settings)
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


def _written(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG_FILE
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file}: expected a run's settings, got {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{file}: expected a run's settings, got a {type(settings).__name__}")
    return settings


def read_overrides(folder: Path) -> list[str]:
    """Return what was set on the command line, or by a sweep, for the run in a folder.

    Empty where nothing says it. What is set for Hydra itself is left out.
    """
    try:
        content = yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return []
    return own_overrides(content or [])


def own_overrides(overrides: Iterable[Any]) -> list[str]:
    """Return the overrides that are not for Hydra itself."""
    return [str(text) for text in overrides if not str(text).startswith(("hydra.", "hydra/"))]


def flat_settings(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a run's settings by dotted name, without where things lie and how they are shown."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if not prefix and name in _NOT_SETTINGS:
            continue
        if isinstance(value, dict):
            flat |= flat_settings(value, f"{prefix}{name}.")
        elif not name.endswith(("_dir", "dirpath")):
            flat[prefix + name] = value
    return flat


def fingerprint(settings: dict[str, Any]) -> str:
    """Return a hash of all settings that a run depends on."""
    text = json.dumps(flat_settings(settings), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def saved_fingerprint(folder: Path) -> str:
    """Return the hash of the config in a run folder, as it was written; its checkpoints carry it.

    Raises:
        ValueError: If the config cannot be read.
    """
    return fingerprint(_written(folder))
