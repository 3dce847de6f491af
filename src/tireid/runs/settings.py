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
# Where things lie and how they are shown: a run is the same run without them.
_NOT_SETTINGS = (
    "paths",
    "callbacks",
    "logger",
    "skip_finished",
    "ckpt_path",
    "num_train_pids",
    "label",
    "wandb_group",
    "by_dataset",
)
# The recipe holds these where they count. Earlier versions' recipe `scratch` did not read them.
_REPEATED = ("image_encoder.learning_rate", "text_encoder.learning_rate")


def difference(folder: Path, settings: dict[str, Any]) -> str:
    """Return in which settings the run of a folder differs from those asked for; empty: none.

    Raises:
        ValueError: If its settings cannot be read.
    """
    file = folder / CONFIG_FILE
    try:
        known = flat_settings(current_names(yaml.safe_load(file.read_text(encoding="utf-8"))))
    except (AttributeError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file}: expected a run's settings, got {error}") from error
    asked = flat_settings(settings)
    differing = sorted(
        key for key in known.keys() | asked.keys() if known.get(key) != asked.get(key)
    )
    if not differing:
        return ""
    key, more = differing[0], len(differing) - 1
    others = f" and {more} other difference{'s' if more > 1 else ''}" if more else ""
    return f"{key}={known.get(key)!r} instead of {asked.get(key)!r}{others}"


def current_names(node: Any) -> Any:
    """Return settings with the names that classes have today, whichever version wrote them."""
    if isinstance(node, dict):
        return {name: current_names(value) for name, value in node.items()}
    if isinstance(node, list):
        return [current_names(value) for value in node]
    return _MOVED.get(node, node) if isinstance(node, str) else node


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


def flat_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return a run's settings by dotted name, without where things lie and how they are shown."""
    return {name: v for name, v in _flat(settings).items() if name not in _REPEATED}


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if not prefix and name in _NOT_SETTINGS:
            continue
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif not name.endswith(("_dir", "dirpath")):
            flat[prefix + name] = value
    return flat


def fingerprint(settings: dict[str, Any]) -> str:
    """Return a hash of all settings that a run depends on; its checkpoints carry it."""
    text = json.dumps(_flat(settings), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
