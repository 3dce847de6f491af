"""What a run is called where many are listed: its name, its group, its tags, all its settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tireid.runs.environment import source_state
from tireid.runs.settings import read_overrides


class RunTitle(NamedTuple):
    """A run among others.

    Attributes:
        name: Label or method, encoders, data set and seed.
        group: Runs that belong together: those of a sweep, an experiment, a data set.
        tags: Words to find it by.
        config: All settings by their names joined with slashes (`model/head/parts`), the label
            filled in; with them overrides and commit.
    """

    name: str
    group: str
    tags: list[str]
    config: dict[str, Any]


def run_title(settings: Mapping[str, Any], folder: Path) -> RunTitle:
    """Return what a run is called.

    Args:
        settings: The resolved config.
        folder: The run folder, where Hydra has left what was chosen; for a teacher, its student's.
    """
    choices = _choices(folder)
    label = settings["label"] or _class_name(settings["model"])
    encoders = [
        choices.get(part) or _class_name(settings[part]["module"])
        for part in ("image_encoder", "text_encoder")
    ]
    dataset, seed = settings["dataset"]["name"], settings["seed"]
    words = [label, "+".join(encoders), dataset, f"seed{seed}"]
    group = (
        settings.get("wandb_group") or choices.get("sweep") or choices.get("experiment") or dataset
    )
    tags = [label, *encoders, dataset, *(["teacher"] if settings["task"] == "teacher" else [])]
    if settings["selection"] == "test":
        tags.append("chosen on test")
    config = {
        **_flat(settings),
        "label": label,
        "encoders": "+".join(encoders),
        "overrides": read_overrides(folder),
        **source_state(Path(__file__).parent),
    }
    return RunTitle(" ".join(words), group, [tag[:64] for tag in dict.fromkeys(tags)], config)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings on one level; wandb takes dots in a name for levels, and finds it no more."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inner = isinstance(value, Mapping) and value
        flat |= _flat(value, f"{prefix}{name}/") if inner else {f"{prefix}{name}": value}
    return flat


def _class_name(settings: Mapping[str, Any]) -> str:
    return str(settings["_target_"]).rsplit(".", 1)[-1]


def _choices(folder: Path) -> dict[str, str]:
    """Return which file of each group of configs was chosen; empty where nothing says it."""
    try:
        content = yaml.safe_load((folder / ".hydra" / "hydra.yaml").read_text(encoding="utf-8"))
        found = content["hydra"]["runtime"]["choices"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, str)}
