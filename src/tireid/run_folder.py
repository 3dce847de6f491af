"""What a run folder tells before anything runs in it: complete, being worked on, or free."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tireid.files import folder_lock

CONFIG_FILE = "config.yaml"
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
)


class _Taken(Exception):  # noqa: N818 -- not an error: another process is at work
    pass


@contextmanager
def claimed(folder: Path, lock: str = ".lock") -> Iterator[bool]:
    """Hold a run folder while the block runs; False where another process holds it.

    Args:
        folder: Made if missing.
        lock: Name of the file in it that stands for what is held.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def give_up() -> None:
        raise _Taken

    try:
        with folder_lock(folder / lock, on_wait=give_up):
            yield True
    except _Taken:
        yield False


def finished_metrics(folder: Path, settings: dict[str, Any]) -> dict[str, float] | None:
    """Return the metrics of the complete run in a folder, None where there is none.

    Args:
        folder: A run folder, or what may become one.
        settings: The resolved config of the run that is asked for.

    Raises:
        ValueError: If the folder holds a complete run with other settings.
    """
    config = folder / CONFIG_FILE
    record = _record(folder)
    if not (record.get("finished") and config.is_file()):
        return None
    if different := difference(folder, settings):
        raise ValueError(
            f"{folder}: expected a run with these settings, got a complete one with {different}; "
            "choose another folder or delete this one"
        )
    return {name: value for name, value in record["metrics"].items() if value is not None}


def is_unfinished(folder: Path) -> bool:
    """Return whether a folder holds a run that has begun and not ended."""
    return (folder / CONFIG_FILE).is_file() and not _record(folder).get("finished")


def difference(folder: Path, settings: dict[str, Any]) -> str:
    """Return in which settings the run of a folder differs from those asked for; empty: none.

    Raises:
        ValueError: If its settings cannot be read.
    """
    file = folder / CONFIG_FILE
    try:
        known = flat_settings(yaml.safe_load(file.read_text(encoding="utf-8")))
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


def _record(folder: Path) -> dict[str, Any]:
    file = folder / "metrics.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


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
