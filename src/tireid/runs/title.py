"""Name, group, tags and flat config of a run, for W&B and tables."""

import re
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

from tireid.runs.environment import source_state
from tireid.runs.foreign import read_yaml
from tireid.runs.settings import UNLEARNED, fingerprint, flatten, method_name, read_overrides

_LONGEST = 80  # characters of a label; W&B takes names of 128
# Overrides that other parts of a title tell, or that change nothing that is learned.
_TOLD = (
    *("model", "image_encoder", "text_encoder", "dataset", "dataset.root", "dataset.num_workers"),
    *("experiment", "sweep", "seed", "label", "wandb_group", "trainer", "strategy", "logger"),
    *("skip_finished", "ckpt_path", "cache_words", "dataset.cache_images", *UNLEARNED),
)
# An absolute path, alone or inside a list or a mapping; no address.
_PATH = re.compile(r"""(?<![\w.:/~-])(?:~?/|[A-Za-z]:[\\/]|\\\\)[^\s,\[\]{}'"]+""")
_ELSEWHERE = ("paths.", "callbacks.", "logger.", "strategy.", "hydra")


class RunTitle(NamedTuple):
    """How a run is listed among others.

    Attributes:
        name: Label, or method and overrides; encoders, data set and seed.
        group: The sweep, the experiment on its data set, or the data set of the run.
        tags: Label, encoders and data set.
        config: The config on one level, names joined by slashes (`model/head/parts`), without paths
            of the machine, with the label filled in, and with overrides, commit and `settings`, a
            hash of what runs that differ in their seed alone have in common.
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
    overrides = read_overrides(folder)
    changes = _changes(overrides)
    label = (
        settings["label"]
        or " ".join([method_name(settings["model"]["_target_"]), *changes])[:_LONGEST]
    )
    encoders = [
        choices.get(part) or _class_name(settings[part]["module"])
        for part in ("image_encoder", "text_encoder")
    ]
    dataset, seed = settings["dataset"]["name"], settings["seed"]
    name = [label, "+".join(encoders), dataset, f"seed{seed}"]
    experiment = f"{choices['experiment']}_{dataset}" if "experiment" in choices else dataset
    group = settings.get("wandb_group") or choices.get("sweep") or experiment
    tags = [
        label,
        *encoders,
        dataset,
        *changes,
        *(["teacher"] if settings["task"] == "teacher" else []),
    ]
    if settings["selection"] == "test":
        tags.append("chosen on test")
    config = {
        # By slashes: W&B reads a dot as a level, and then no filter finds the name.
        **{name: v for name, v in flatten(settings, "/").items() if not _is_path(name, v)},
        "label": label,
        "encoders": "+".join(encoders),
        "settings": fingerprint(settings, seeds=False)[:8],
        "overrides": [text for text in overrides if not _is_path(*_parts(text))],
        **source_state(Path(__file__).parent),
    }
    return RunTitle(" ".join(name), group, [tag[:64] for tag in dict.fromkeys(tags)], config)


def _changes(overrides: list[str]) -> list[str]:
    """Return the overrides that name and encoders do not tell, and that change what is learned."""
    parts = sorted(map(_parts, overrides))
    told = [name in _TOLD or name.startswith(_ELSEWHERE) for name, _ in parts]
    return [
        f"{name}={_without_folders(value)}"
        for (name, value), is_told in zip(parts, told, strict=True)
        if not is_told
    ]


def _without_folders(value: str) -> str:
    """Return a value whose absolute paths are shortened to their last part."""
    if _PATH.match(value):  # which may hold spaces
        return PureWindowsPath(value).name  # it knows both separators
    return _PATH.sub(lambda path: PureWindowsPath(path[0]).name, value)


def _parts(override: str) -> tuple[str, str]:
    name, _, value = override.lstrip("+~").partition("=")
    return name, value.strip("'\"")


def _is_path(name: str, value: Any) -> bool:
    """Return whether a setting tells where something lies on this machine."""
    if isinstance(value, list | tuple):
        return any(_is_path("", item) for item in value)
    has_path = isinstance(value, str) and bool(_PATH.search(value))
    return has_path or name.startswith(("paths/", "paths."))


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
