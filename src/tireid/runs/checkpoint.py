"""Write checkpoint files atomically, and read them without running anything in them."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from tireid.files import replacing

LAST = "last.ckpt"
PREVIOUS = "last_previous.ckpt"

_CODE = "objects that may carry code; none of it was loaded or run"


def write_checkpoint(
    content: dict[str, Any], path: Path, previous: str | Path | None = None
) -> None:
    """Write tensors and plain values.

    Args:
        content: The tensors and plain values.
        path: The file; its folder is made if missing.
        previous: New path of the file that is replaced; None: it is not kept.

    Raises:
        OSError: If it cannot be written; the old file is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, None if previous is None else Path(previous)) as file:
        torch.save(content, file)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the tensors and plain values of a checkpoint, on the CPU.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no checkpoint, damaged, or holds more than tensors and plain values,
            which are not loaded. Names the file and, if it is the last one, the one before.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected a checkpoint, got no such file{_alternative(path)}"
        )
    if kind := _other_kind(path):
        raise ValueError(f"{path}: expected a checkpoint, got {kind}{_alternative(path)}")
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not verify the check sums
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"check sum of {damaged}")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Broken files raise nearly anything.
        kind = f"a file that is cut off or damaged ({type(error).__name__})"
        if isinstance(error, pickle.UnpicklingError) or "TorchScript" in str(error):
            kind = _CODE
        raise ValueError(
            f"{path}: expected a checkpoint, got {kind}{_alternative(path)}"
        ) from error
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ValueError(f"{path}: expected a checkpoint, got a {kind}{_alternative(path)}")
    return content


def _other_kind(path: Path) -> str:
    """Return the kind of a file that torch cannot have written; else an empty text."""
    with path.open("rb") as file:
        header = file.read(4)
    if not header:
        return "an empty file"
    if header == b"PK\x03\x04":
        return ""
    return _CODE if header.startswith(b"\x80") else "another kind of file"


def _alternative(path: Path) -> str:
    previous = path.with_name(PREVIOUS)
    if path.name != LAST or not previous.is_file():
        return ""
    return f"; the one before it is {previous}"
