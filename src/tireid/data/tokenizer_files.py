"""The two files of a saved tokenizer, which may be anybody's, read and checked.

The `tokenizers` library ends the process where memory ends, and panics, in a way that passes all
handlers of errors, on much that it does not expect.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import NoneType
from typing import Any

from tokenizers import Tokenizer

from tireid.runs.foreign import check, read_json
from tireid.runs.hub_folder import check_hub_folder

VOCABULARY_FILE = "tokenizer.json"
SETTINGS_FILE = "tireid_tokenizer.json"
_SETTINGS = {"max_length": int, "keep_sep": bool, "pad_id": int, "vocab_size": int}
_VOCABULARY = {
    "padding": NoneType,  # captions are padded and cut by this package
    "truncation": NoneType,
    "added_tokens": [{"id": int}],
    "model": {"dropout": NoneType},
    "normalizer": (dict,),
    "pre_tokenizer": (dict,),
    "post_processor": (dict,),
}
# Each step of a normaliser may make a caption longer by what it puts in.
_LONGEST_CONTENT = 8  # characters
_MOST_STEPS = 24
_PROBE = ["", "A woman in a red coat, with 2 bags."]


def read_tokenizer_files(folder: Path) -> tuple[dict[str, Any], Tokenizer]:
    """Return the settings and the vocabulary of a saved tokenizer.

    Raises:
        FileNotFoundError: If the folder lacks one of the two files.
        ValueError: If one of them cannot be read, or holds what could stop the process.
    """
    for name in (VOCABULARY_FILE, SETTINGS_FILE):
        if not (folder / name).exists():
            raise FileNotFoundError(f"{folder}: expected a saved tokenizer, but {name} is missing")
    file, run = folder / VOCABULARY_FILE, folder.parent
    settings = read_json(folder / SETTINGS_FILE, "a tokenizer's settings", inside=run)
    check(settings, _SETTINGS, folder / SETTINGS_FILE, complete=True)
    content = read_json(file, "a vocabulary", _VOCABULARY, inside=run)
    _check_steps(content.get("normalizer"), file)
    backend = _parsed(content, folder)
    _check_ids(backend, settings, folder)
    return settings, backend


def check_pretrained_files(folder: Path) -> None:
    """Check a folder from which the library may make a tokenizer.

    Raises:
        ValueError: If a file of it is none to read, or could stop the process; names it.
    """
    check_hub_folder(folder)
    if (file := folder / VOCABULARY_FILE).exists():
        content = read_json(file, "a vocabulary", {"normalizer": (dict,)})
        _check_steps(content.get("normalizer"), file)


def _check_steps(normaliser: Any, file: Path) -> None:
    """Refuse a normaliser that could make a caption many times as long as it is."""
    steps, waiting = 0, [normaliser]
    while waiting:
        step = waiting.pop()
        steps += 1
        if not isinstance(step, dict):
            continue
        waiting += step.get("normalizers") or []
        content = step.get("content") or step.get("prepend") or ""
        if len(content) > _LONGEST_CONTENT or steps > _MOST_STEPS:
            raise ValueError(
                f"{file}: normalizer: expected at most {_MOST_STEPS} steps that put in at most "
                f"{_LONGEST_CONTENT} characters each, got {content[:20]!r} in step {steps}"
            )


def _parsed(content: dict[str, Any], folder: Path) -> Tokenizer:
    try:
        with panics_as_errors():
            # Written anew: what was checked, whatever the file repeats.
            return Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # The library raises bare exceptions for malformed files.
        raise ValueError(f"{folder}: expected a saved tokenizer, got {error!r:.300}") from error


def _check_ids(backend: Tokenizer, settings: dict[str, Any], folder: Path) -> None:
    ids, size = ids_of(backend, folder), settings["vocab_size"]
    for name, number in (("pad_id", settings["pad_id"]), ("the largest id", max(ids, default=0))):
        if not 0 <= number < size:
            raise ValueError(
                f"{folder}: {name}: expected 0 to {size - 1}, below vocab_size, got {number}"
            )


def ids_of(backend: Tokenizer, source: str | Path) -> set[int]:
    """Return the ids of a vocabulary, those that it adds to captions too.

    Args:
        backend: The vocabulary.
        source: Where it comes from, for messages.

    Raises:
        ValueError: If it fails on plain captions.
    """
    try:
        with panics_as_errors():
            encodings = backend.encode_batch_fast(_PROBE)
    except Exception as error:
        raise ValueError(f"{source}: expected a tokenizer that works, got {error}") from error
    used = {number for encoding in encodings for number in encoding.ids}
    return used | set(backend.get_vocab().values())


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Turn a panic of the library in the block into an error.

    Raises:
        ValueError: If there was one.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # no module has it
            raise
        reason = " ".join(str(error).split())
        raise ValueError(f"the tokenizers library failed: {reason}") from error
