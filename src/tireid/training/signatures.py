"""Check numbers, switches and choices of a config by the signatures of what takes them."""

import inspect
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import lightning as L
from hydra.utils import get_object
from omegaconf import DictConfig

from tireid.inference.build import plain

_KINDS = {int, float, bool, NoneType}
_TOO_LARGE = 2**63  # for a tensor
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", NoneType: "null"}


def check_signatures(cfg: DictConfig) -> None:
    """Check, before anything is built, that numbers, switches and choices are such.

    Args:
        cfg: A composed training config.

    Raises:
        ValueError: Names the setting, what was expected and its value.
    """
    settings = plain(cfg)
    _check(settings, "")
    given = {name: value for name, value in settings["strategy"].items() if value is not None}
    _check_arguments(given, _kinds(L.Trainer), "strategy")


def _check(node: Any, key: str) -> None:
    if isinstance(node, list):
        for number, value in enumerate(node):
            _check(value, f"{key}[{number}]")
    elif isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            try:
                target = get_object(node["_target_"])
            except (ImportError, ValueError):
                return  # building it says so
            _check_arguments(node, _kinds(target), key)
        for name, value in node.items():
            _check(value, f"{key}.{name}" if key else str(name))


def _check_arguments(node: dict[str, Any], kinds: dict[str, set[Any]], key: str) -> None:
    for name, value in node.items():
        accepted = kinds.get(name, {Any})
        choices = [v for kind in accepted if get_origin(kind) is Literal for v in get_args(kind)]
        accepted = {kind for kind in accepted if get_origin(kind) is not Literal}
        is_large = type(value) is int and abs(value) >= _TOO_LARGE
        if not accepted <= _KINDS or (type(value) in accepted and not is_large):
            continue
        if (type(value) is int and float in accepted and not is_large) or _is_one(value, choices):
            continue
        kinds_left = accepted - {int} if float in accepted else accepted
        words = [*choices, *(word for kind, word in _WORDS.items() if kind in kinds_left)]
        expected = " or ".join(map(str, words))
        size = " below 2**63" if is_large else ""
        raise ValueError(f"{key}.{name}: expected {expected}{size}, got {value!r}")


def _is_one(value: Any, choices: list[Any]) -> bool:
    return any(type(value) is type(choice) and value == choice for choice in choices)


def _kinds(target: Any) -> dict[str, set[Any]]:
    """Return the types that each argument accepts; empty where they cannot be told."""
    try:
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError, AttributeError):
        return {}
    unions = (Union, UnionType)
    return {
        name: set(get_args(hint)) if get_origin(hint) in unions else {hint}
        for name, hint in hints.items()
    }
