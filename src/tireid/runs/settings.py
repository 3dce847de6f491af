"""The config of a run: flattened, compared, hashed, and the overrides it was made with."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tireid.runs.foreign import check, read_yaml

CONFIG_FILE = "config.yaml"
# Names of methods by their class, where they differ.
_METHODS = {
    "Lgur": "LGUR",
    "Lcr2s": "LCR2S",
    "Lcr2sTeacher": "LCR2S teacher",
    "Irra": "IRRA",
    "Rde": "RDE",
}

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
# The recipe repeats them, which in earlier versions `recipe=scratch` ignored; so does the model.
_REPEATED = (
    "image_encoder.learning_rate",
    "text_encoder.learning_rate",
    "image_encoder.projection",
    "text_encoder.words",
    "model.seed",
    "model.dual.seed",
    "model.teacher.dual.seed",
)

# Where a method stands in a config.
_PLACES = ("model", "model.dual", "model.teacher.dual")
# Settings that earlier versions lacked, and what those did.
_ADDED = {
    "teaching.selection": "last",
    "average_decay": 0.0,
    "layer_decay": 1.0,
    "frozen_blocks": 0,
    "lora_rank": 0,
    "checkpoint_activations": False,
    "micro_batch": 0,
    **{f"{place}.identity": "exact" for place in _PLACES},
    **{f"{place}.identity_share": 0.1 for place in _PLACES},
    "model.label_smoothing": 0.0,
    "model.dual.label_smoothing": 0.0,
    "model.teacher.label_smoothing": 0.0,
    "model.teacher.dual.label_smoothing": 0.0,
    "tf32": True,
    "recipe.tf32": True,
    "recipe.precision": "32-true",
    "dataset.erase_value": [0.0, 0.0, 0.0],
    "text_encoder.tokenizer.mended": False,
    "dataset.colour_jitter": 0.0,
    "dataset.word_probability": 0.0,
    "dataset.back_translation": 0.0,
    "dataset.noise": 0.0,
    "dataset.decode": "pillow",
    "dataset.bad_images": 0.0,
}
# How images are read and moved, with the value that counts for any: hashes stay what they were.
UNLEARNED = {
    "dataset.cache": None,
    "dataset.prefetch": 2,
    "dataset.persistent_workers": True,
    "dataset.normalise_on": "auto",
}

# Settings that earlier versions lacked and that differ by default now: continued runs keep theirs.
_KEPT = {"tireid.data.synthetic.read_synthetic": {"dataset.read.version": 1}}

_SECTIONS = dict.fromkeys(
    ("model", "image_encoder", "text_encoder", "dataset", "trainer", "paths", "logger"), dict | None
)


def difference(folder: Path, settings: dict[str, Any]) -> str:
    """Return how the saved config of a run folder differs from another config; empty: not at all.

    Raises:
        ValueError: If the saved config cannot be read.
    """
    saved = _without_repeated(flat_settings(read_settings(folder)))
    wanted = _without_repeated(flat_settings(settings))
    added = {n: value for n, value in (_ADDED | UNLEARNED).items() if n in wanted}
    kept = _kept(saved)
    saved = added | saved | kept
    wanted |= kept
    names = [name for name in saved.keys() | wanted.keys() if saved.get(name) != wanted.get(name)]
    names.sort(key=lambda name: (name.count("."), name))  # first what others follow
    if not names:
        return ""
    name, more = names[0], len(names) - 1
    others = f" and {more} other difference{'s' if more > 1 else ''}" if more else ""
    return f"{name}={saved.get(name)!r} instead of {wanted.get(name)!r}{others}"


def kept_settings(folder: Path) -> dict[str, Any]:
    """Return what a run of an earlier version goes on with, by dotted name, whatever is set now.

    Raises:
        ValueError: If the saved config cannot be read.
    """
    return _kept(flat_settings(read_settings(folder)))


def _kept(saved: Mapping[str, Any]) -> dict[str, Any]:
    kept = _KEPT.get(str(saved.get("dataset.read._target_")), {})
    return {name: value for name, value in kept.items() if name not in saved}


def read_settings(folder: Path) -> dict[str, Any]:
    """Return a folder's config as this version would write it, whichever version wrote it.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it cannot be read.
    """
    current = check(_current_names(read_config(folder)), _SECTIONS, folder / CONFIG_FILE)
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
    if not (file.exists() or file.is_symlink()):
        raise FileNotFoundError(
            f"{folder}: expected {CONFIG_FILE} in it, where training or an export leaves it"
        )
    config = read_yaml(file, "a config", inside=folder)
    return check({} if config is None else config, dict, file, what="a config")  # an empty file


def read_overrides(folder: Path) -> list[str]:
    """Return the overrides of a run, from its command line or its sweep; empty if not recorded.

    Overrides of Hydra's own config are left out.
    """
    try:
        file = folder / ".hydra" / "overrides.yaml"
        return own_overrides(check(read_yaml(file, "overrides", inside=folder), [str], file))
    except (OSError, ValueError):
        return []


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
    """Return a config by dotted name, without paths and display, and with images read as usual."""
    flat = flatten({name: value for name, value in settings.items() if name not in _IGNORED})
    return {
        name: UNLEARNED.get(name, value)
        for name, value in flat.items()
        if value != {} and not name.endswith(("_dir", "dirpath", ".read.repeats"))
    }


def method_name(target: str) -> str:
    """Return the name of a method, that of its paper, from its class, as a config names it.

    Example:
        >>> method_name("tireid.methods.lgur.Lgur"), method_name("mine.Gem")
        ('LGUR', 'Gem')
    """
    name = target.rpartition(".")[2]
    return _METHODS.get(name, name)


def without_seeds(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return a flat config without its seeds."""
    return {name: value for name, value in flat.items() if name.rsplit(".", 1)[-1] != "seed"}


def _without_repeated(flat: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flat.items() if not name.startswith(_REPEATED)}


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
