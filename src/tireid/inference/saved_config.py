"""Read the `config.yaml` of a run or of an exported folder, which may be anybody's.

A config names what is built from it. From a saved one only classes of this package are built, and
the function of `tireid.data` that reads its data set, or those of packages that the user trusts.
All names are checked before any is built. Losses of other packages are left out: inference needs
none.
"""

import importlib
import inspect
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tireid.data.records import Splits
from tireid.inference.trust import can_be_trusted, package_of, trusted, trusting
from tireid.losses.absent import AbsentLoss
from tireid.methods.base import RetrievalModule
from tireid.runs.foreign import check
from tireid.runs.settings import CONFIG_FILE, flatten, read_settings

# What embedding needs. The tokenizer is left out: a folder holds it as files.
_INFERENCE: dict[str, dict[str, Any]] = {
    "image_encoder": {"module": dict, "mean": [float], "std": [float], "interpolation": str},
    "text_encoder": {"module": dict},
    "dataset": {"name": str, "image_size": [int]},
    "trainer": {"precision": str | int},
}
# What evaluation needs beside it.
_EVALUATION = {
    "seed": int,
    "selection": str,
    "batch_size": int,
    "validation_split": str,
    "dataset": {
        "read": {
            "root": str | None,
            "cache_dir": str | None,
            "exclude_ids": [int],
            "val_fraction": float,
            "test_fraction": float,
            "split_seed": int,
            "layout": str,
            "repeats": str,
            "world_seed": int,
            "sets": {str: dict | None},
        },
        "terms": str | None,
        "num_workers": int | None,
        "bad_images": float,
        "counts": ({str: {str: int}},),
        "other_releases": ({str: {str: {str: int}}},),
    },
    "trainer": {"deterministic": bool | str | None},
    "paths": dict,
}
_SELECTIONS = ("val", "last", "test")
# Built in training only: left out, so neither built nor checked.
_TRAINING = ("callbacks", "logger", "recipe", "strategy")
_TRAINING_ARGUMENTS = ("optimizer", "schedule", "learning_rates")
_TRAINER_VALUES = ("precision", "deterministic")

_ABSENT = f"{AbsentLoss.__module__}.{AbsentLoss.__name__}"

_TARGET = re.compile(
    r"(tireid\.(?:data|encoders|losses|methods)(?:\.[a-z][a-z0-9_]*)*)\.([A-Za-z]\w*)"
)
_FOREIGN_TARGET = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\.([A-Za-z_]\w*)")
_OF_A_READER = (Splits, "Splits", inspect.Signature.empty)  # what it may say that it returns
_READER = "dataset.read._target_"  # the one key that names a function
_SPECIAL = re.compile(r"_[a-z]+_")
_SPECIAL_KEYS = {"_target_": str, "_partial_": bool, "_convert_": str, "_recursive_": bool}


def inference_config(folder: Path, *, of_teacher: bool = False) -> DictConfig:
    """Return the checked part of a folder's config that inference builds a model from.

    Args:
        folder: A run folder or an exported one.
        of_teacher: Whether the model is the teacher that the config's model has.

    Raises:
        FileNotFoundError: If there is no config.
        ValueError: If it cannot be read, lacks something, or names what must not be built.
    """
    settings = _complete_settings(folder)
    part = {"model": settings["model"], "tf32": settings["tf32"]}
    if of_teacher:
        teacher = settings["model"].get("teacher")
        if not isinstance(teacher, dict) or not _is_method(teacher.get("_target_")):
            raise ValueError(f"{folder / CONFIG_FILE}: model.teacher: expected a teacher, got none")
        part["model"] = {name: value for name, value in teacher.items() if name != "_partial_"}
    for section, names in _INFERENCE.items():
        part[section] = {name: settings[section][name] for name in names}
    part["dataset"]["terms"] = str(settings["dataset"].get("terms") or "")
    if settings["dataset"].get("decode") not in (None, "pillow"):
        part["dataset"]["decode"] = str(settings["dataset"]["decode"])
    return _checked(part, folder)


def evaluation_config(folder: Path) -> DictConfig:
    """Return the checked part of a run's config that evaluation builds data and model from.

    Args:
        folder: A run folder.

    Raises:
        FileNotFoundError: If there is no config.
        ValueError: If it cannot be read, lacks something, or names what must not be built.
    """
    settings, file = _complete_settings(folder), folder / CONFIG_FILE
    check(settings, _EVALUATION, file)
    for name in _EVALUATION:
        if settings.get(name) is None:
            raise ValueError(f"{file}: {name}: expected a value, got none")
    _check_reader(settings["dataset"].get("read", {}), file)
    if settings["selection"] not in _SELECTIONS:
        raise ValueError(
            f"{file}: selection: expected one of {', '.join(_SELECTIONS)}, got "
            f"{settings['selection']!r}"
        )
    part = {name: value for name, value in settings.items() if name not in _TRAINING}
    trainer = settings["trainer"]
    part["trainer"] = {name: trainer[name] for name in _TRAINER_VALUES if name in trainer}
    return _checked(part, folder)


def _complete_settings(folder: Path) -> dict[str, Any]:
    settings, file = read_settings(folder), folder / CONFIG_FILE
    if not isinstance(settings.get("model"), dict):
        raise ValueError(f"{file}: model: expected a method's settings, got none")
    target = settings["model"].get("_target_")
    if not _is_method(target):
        raise ValueError(
            f"{file}: model._target_: expected a method of tireid.methods, got {target!r}; "
            f"{_refused(target)}"
        )
    for section, names in _INFERENCE.items():
        values = settings.get(section)
        for name in names:
            if not isinstance(values, dict) or values.get(name) is None:
                raise ValueError(f"{file}: {section}.{name}: expected a value, got none")
    settings.setdefault("tf32", True)  # earlier versions allowed it always
    return check(settings, _INFERENCE | {"tf32": bool}, file)


def _checked(part: dict[str, Any], folder: Path) -> DictConfig:
    part = _without_training(part)
    _check(part, folder / CONFIG_FILE, "")
    return OmegaConf.create(part)


def _without_training(node: Any) -> Any:
    """Return a copy without pretrained weights and what only training needs of methods."""
    if isinstance(node, list):
        return [_without_training(value) for value in node]
    if not isinstance(node, dict):
        return node
    if not _is_method(target := node.get("_target_")):
        kept = node
    else:
        losses = _locate(target).losses
        kept = {
            name: _without_foreign_loss(value) if name in losses else value
            for name, value in node.items()
            if name not in _TRAINING_ARGUMENTS
        }
    return {
        name: False if name == "pretrained" else _without_training(value)
        for name, value in kept.items()
    }


def _without_foreign_loss(node: Any) -> Any:
    target = node.get("_target_") if isinstance(node, dict) else None
    return node if package_of(target) is None else {"_target_": _ABSENT, "name": target}


def packages_to_trust(settings: dict[str, Any]) -> list[str]:
    """Return the packages that others must trust to use a run.

    Args:
        settings: The resolved config of a training of one's own, whose packages are imported.
    """
    part = {name: settings[name] for name in ("model", "image_encoder", "text_encoder", "dataset")}

    def named(node: Any) -> set[str]:
        values = flatten(node).items()
        packages = {package_of(value) for name, value in values if name.endswith("_target_")}
        return set(filter(can_be_trusted, packages))

    with trusting(named(part)):
        return sorted(named(_without_training(part)))


def _check(node: Any, file: Path, key: str) -> None:
    """Refuse what would build anything else, and what would change after this check.

    Raises:
        ValueError: Names the file, the key in it and the value.
    """
    if isinstance(node, list):
        for number, value in enumerate(node):
            _check(value, file, f"{key}[{number}]")
    elif isinstance(node, dict):
        for name, value in node.items():
            inner = f"{key}.{name}" if key else str(name)
            if name == "_target_":
                _check_target(value, file, inner)
            is_special = _SPECIAL.fullmatch(str(name))
            if is_special and not isinstance(value, _SPECIAL_KEYS.get(name, ())):
                raise ValueError(f"{file}: {inner}: expected arguments by name, got {value!r}")
            _check(value, file, inner)
    elif isinstance(node, str) and "${" in node:
        raise ValueError(f"{file}: {key}: expected a value, got the interpolation {node!r}")


def _check_reader(read: dict[str, Any], file: Path) -> None:
    """Refuse a reader that would be called before it is asked for, or with other arguments."""
    _check_target(read.get("_target_"), file, _READER)
    if read.get("_partial_") is not True:
        raise ValueError(
            f"{file}: dataset.read._partial_: expected true, got {read.get('_partial_')!r}"
        )
    try:
        reader = inspect.signature(_locate(read["_target_"]))
        reader.bind(**{name: value for name, value in read.items() if name not in _SPECIAL_KEYS})
    except TypeError as error:
        raise ValueError(f"{file}: dataset.read: expected a reader's arguments, {error}") from error


def _check_target(target: Any, file: Path, key: str) -> None:
    located = _locate(target)
    if key == _READER:
        good = (
            inspect.isfunction(located)
            and (package_of(target) is not None or str(target).startswith("tireid.data."))
            and inspect.signature(located).return_annotation in _OF_A_READER
        )
        expected = "a function of tireid.data that reads a data set"
    else:
        good = inspect.isclass(located)
        expected = "a class of tireid.data, tireid.encoders, tireid.losses or tireid.methods"
    if not good:
        raise ValueError(f"{file}: {key}: expected {expected}, got {target!r}; {_refused(target)}")


def _refused(target: Any) -> str:
    """Return what was done about a name that must not be built, and what its author can do."""
    if not can_be_trusted(package := package_of(target)):
        return "nothing was built or run"
    if package in trusted():
        missing = "has nothing of this name and kind"
        if find_spec(package) is None:
            missing = "is not installed here; install it, or name its folder in PYTHONPATH"
        return f"{package} is trusted, but {missing}"
    return (
        "nothing was built or run, since a saved config may be anybody's. If it is yours, or you "
        f"trust who wrote {package}, which then runs here: tireid COMMAND --trust {package}, or "
        f'trust=["{package}"] in Python'
    )


def _is_method(target: Any) -> bool:
    located = _locate(target)
    return inspect.isclass(located) and issubclass(located, RetrievalModule)


def _locate(target: Any) -> Any:
    """Return the class or function of this package or a trusted one that has a name, else None.

    It must be defined in the module or package of the name, or below it:
    `tireid.data.images.os.system` is not.
    """
    package = package_of(target)
    form = _TARGET if package is None else _FOREIGN_TARGET
    parts = form.fullmatch(target) if isinstance(target, str) else None
    if parts is None or (package is not None and package not in trusted()):
        return None
    module, name = parts.groups()
    try:
        value = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return None
    defined = str(getattr(value, "__module__", None))
    return value if defined == module or defined.startswith(f"{module}.") else None
