"""Checkpoints of other people's code: read without running them, and their weights renamed."""

import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from tireid.runs.checkpoint import load_saved, weights_fault

SHOWN_KEYS = 5
_PARALLEL = "module."  # of DataParallel and DistributedDataParallel

# Per part of a model its official prefix, ours, and the names below them: official as a pattern of
# the whole rest, then ours. `{a|b}`: the rows are split in equal parts with these names, in this
# order. None: saved by the official code, never used by it.
Names = Sequence[tuple[str, str, Mapping[str, str | None]]]


class OfficialWeights(NamedTuple):
    """What a source of `conf/source/` reads from a checkpoint.

    Attributes:
        state: Weights under the names and in the shapes of our method.
        num_train_pids: Number of training identities of its heads.
        lacking: Prefix of our names whose weights the file lacks and the config gets elsewhere;
            empty: none.
    """

    state: dict[str, Tensor]
    num_train_pids: int
    lacking: str = ""


class _Ignored:
    """Takes the place of numpy's scalars and dtypes: accepts what they are made of, does nothing.

    Best results are saved as numpy numbers, which nobody needs here.
    """

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


_ALLOWED: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_Ignored, name)
    for name in ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")
]


def read_parts(path: Path, code: str, parts: Sequence[str]) -> dict[str, dict[str, Tensor]]:
    """Return the weights in a checkpoint; nothing in the file is executed.

    Args:
        path: The file.
        code: What wrote it, for messages: `official LGUR code`.
        parts: Entries that hold weights.

    Returns:
        Tensors by official name, of each of the parts; a prefix `module.` of all of them is left
        out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything but what that code saves.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a checkpoint of the {code}")
    expected = f"{path}: expected a checkpoint of the {code}, a dict with {' and '.join(parts)}"
    try:
        content = load_saved(path, _ALLOWED)
    except pickle.UnpicklingError as error:  # Its text advises to execute the file: not shown.
        raise ValueError(f"{expected}; got what is not, or not only, tensors") from error
    except Exception as error:  # Broken files raise nearly anything.
        raise ValueError(f"{expected}; got an unreadable file ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{expected}; got a {type(content).__name__}")
    found: dict[str, dict[str, Tensor]] = {}
    for part in parts:
        weights = content.get(part)
        if not isinstance(weights, dict):
            raise ValueError(f"{expected}; got {some(sorted(map(str, content)))}")
        fault = weights_fault(weights) if weights else "nothing"
        if fault:
            raise ValueError(f"{expected}, of tensors by name; got in {part}: {fault}")
        found[part] = _without_prefix(weights)
    return found


def _without_prefix(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights by their own names, if a module for several devices has put one before all."""
    is_wrapped = all(name.startswith(_PARALLEL) for name in weights)
    return {name.removeprefix(_PARALLEL) if is_wrapped else name: weights[name] for name in weights}


def renamed(weights: Mapping[str, Tensor], names: Names, code: str) -> dict[str, Tensor]:
    """Return weights under our names.

    Args:
        weights: Tensors by official name.
        names: The official names and ours.
        code: What saved them, for the message.

    Raises:
        ValueError: If a name is not of the official layout, or rows cannot be split.
    """
    state: dict[str, Tensor] = {}
    unknown: list[str] = []
    for key, value in weights.items():
        known, name = _rename(key, names)
        if not known:
            unknown.append(key)
        elif name is not None:
            state |= _split(key, name, value)
    if unknown:
        raise ValueError(
            f"expected the names of the {code}, got {len(unknown)} others: {some(sorted(unknown))}"
        )
    return state


def _rename(key: str, names: Names) -> tuple[bool, str | None]:
    """Return whether an official name is known, and ours, None for what is never used."""
    for official, ours, patterns in names:
        if key.startswith(official):
            for pattern, name in patterns.items():
                if found := re.fullmatch(pattern, key.removeprefix(official)):
                    return True, None if name is None else ours + found.expand(name)
    return False, None


def _split(key: str, name: str, value: Tensor) -> dict[str, Tensor]:
    """Return `value` by its name, or its parts by theirs where the name has alternatives."""
    alternatives = re.search(r"\{(.+)\}", name)
    if alternatives is None:
        return {name: value}
    parts = alternatives[1].split("|")
    if value.ndim == 0 or len(value) % len(parts):
        raise ValueError(
            f"{key}: expected rows for {len(parts)} equal parts, got shape {tuple(value.shape)}"
        )
    return {
        name.replace(alternatives[0], part): chunk
        for part, chunk in zip(parts, value.chunk(len(parts)), strict=True)
    }


def some(keys: list[str]) -> str:
    """Return the first of some names, and how many more there are."""
    more = f", and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
    return (", ".join(keys[:SHOWN_KEYS]) or "nothing") + more
