"""Name, group, tags and flat config of a run, for W&B and tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tireid.runs.environment import source_state
from tireid.runs.foreign import read_yaml
from tireid.runs.settings import flatten, read_overrides


class RunTitle(NamedTuple):
    """How a run is listed among others.

    Attributes:
        name: Label or method, encoders, data set and seed.
        group: The sweep, the experiment on its data set, or the data set of the run.
        tags: Label, encoders and data set.
        config: The config on one level, names joined by slashes (`model/head/parts`), with the
            label filled in, and with overrides and commit.
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
    name = [label, "+".join(encoders), dataset, f"seed{seed}"]
    experiment = f"{choices['experiment']}_{dataset}" if "experiment" in choices else dataset
    group = settings.get("wandb_group") or choices.get("sweep") or experiment
    tags = [label, *encoders, dataset, *(["teacher"] if settings["task"] == "teacher" else [])]
    if settings["selection"] == "test":
        tags.append("chosen on test")
    config = {
        # By slashes: W&B reads a dot as a level, and then no filter finds the name.
        **flatten(settings, "/"),
        "label": label,
        "encoders": "+".join(encoders),
        "overrides": read_overrides(folder),
        **source_state(Path(__file__).parent),
    }
    return RunTitle(" ".join(name), group, [tag[:64] for tag in dict.fromkeys(tags)], config)


def _class_name(settings: Mapping[str, Any]) -> str:
    return str(settings["_target_"]).rsplit(".", 1)[-1]


def _choices(folder: Path) -> dict[str, str]:
    """Return the chosen config of each group; empty if it is not recorded."""
    try:
        content = read_yaml(folder / ".hydra" / "hydra.yaml", "Hydra's config", inside=folder)
        choices = content["hydra"]["runtime"]["choices"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {name: value for name, value in choices.items() if isinstance(value, str)}
