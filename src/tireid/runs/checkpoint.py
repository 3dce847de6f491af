"""Checkpoint files: written atomically, read without running anything in them."""

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
        content: What `read_checkpoint` gives back.
        path: The file; its folder is made.
        previous: Where the file that was there is kept; None: nowhere.

    Raises:
        OSError: If it cannot be written; what was there before is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, None if previous is None else Path(previous)) as file:
        torch.save(content, file)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the tensors and plain values of a checkpoint, on the CPU.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no checkpoint, damaged, or holds more than tensors and plain values,
            which are not loaded; names the file and, beside a last checkpoint, the one before.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint, got no such file{_offer(path)}")
    if other := _other_kind(path):
        raise ValueError(f"{path}: expected a checkpoint, got {other}{_offer(path)}")
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself does not look at the check sums
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"check sum of {damaged}")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Broken files raise nearly anything.
        kind = f"a file that is cut off or damaged ({type(error).__name__})"
        if isinstance(error, pickle.UnpicklingError) or "TorchScript" in str(error):
            kind = _CODE
        raise ValueError(f"{path}: expected a checkpoint, got {kind}{_offer(path)}") from error
    if not isinstance(content, dict):
        found = type(content).__name__
        raise ValueError(f"{path}: expected a checkpoint, got a {found}{_offer(path)}")
    return content


def _other_kind(path: Path) -> str:
    """Return what a file is that torch has not written; empty: torch may have."""
    with path.open("rb") as file:
        begin = file.read(4)
    if not begin:
        return "an empty file"
    if begin == b"PK\x03\x04":
        return ""
    return _CODE if begin.startswith(b"\x80") else "another kind of file"


def _offer(path: Path) -> str:
    previous = path.with_name(PREVIOUS)
    if path.name != LAST or not previous.is_file():
        return ""
    return f"; the one before it is {previous}"
