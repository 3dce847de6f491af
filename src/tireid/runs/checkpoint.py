"""Write checkpoint files atomically, and read them without running anything in them.

`torch.load` would unpack an archive of any size, and make tensors that are sparse, have no memory
of their own, or repeat one number without end: files are checked before it and values after it.
"""

import pickle
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from tireid.files import replacing
from tireid.runs.foreign import DEEPEST, regular_file

LAST = "last.ckpt"
PREVIOUS = "last_previous.ckpt"

_LARGEST_PICKLE = 64 * 2**20  # bytes: the values that are no tensors
_MOST_VALUES = 2_000_000
_PLAIN = (str, int, float, bool, bytes, NoneType, torch.dtype, torch.device)
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
        ValueError: If it is no checkpoint, damaged, or holds more than dense tensors of real
            numbers and plain values. Names the file and, if it is the last one, the one before.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: expected a checkpoint, got no such file{_alternative(path)}"
        )
    content, kind = _content(regular_file(path))
    if kind:
        raise ValueError(f"{path}: expected a checkpoint, got {kind}{_alternative(path)}")
    return content


def _content(path: Path) -> tuple[Any, str]:
    """Return what a file holds, and what is wrong with it; else an empty text."""
    if kind := _other_kind(path):
        return None, kind
    try:
        content = load_saved(path)
    except Exception as error:  # Broken files raise nearly anything.
        return None, loading_fault(error)
    return content, other_values(content) if isinstance(content, dict) else _a(content)


def load_saved(path: Path, allowed: Sequence[Any] = ()) -> Any:
    """Return what any version of torch has saved, on the CPU; nothing in the file is executed.

    Args:
        path: The file.
        allowed: Other objects that may be in it, as `torch.serialization.safe_globals` takes them.

    Raises:
        Exception: Nearly any, if the file is damaged or holds something else; see `loading_fault`.
    """
    if zipfile.is_zipfile(regular_file(path)):  # older versions of torch wrote none
        check_archive(path)
    with (
        warnings.catch_warnings(action="ignore"),  # of kinds of tensors that are refused later
        torch.serialization.safe_globals(list(allowed)),
    ):
        return torch.load(path, map_location="cpu", weights_only=True)


def loading_fault(error: Exception) -> str:
    """Describe what is wrong with a file by the error of `load_saved`."""
    if isinstance(error, pickle.UnpicklingError) or "TorchScript" in str(error):
        return _CODE  # the error's own text advises to run it
    reason = error if isinstance(error, zipfile.BadZipFile) else type(error).__name__
    return f"a file that is cut off or damaged ({reason})"


def check_archive(path: Path) -> None:
    """Check that an archive of torch needs no more memory than its size, and is undamaged.

    Raises:
        zipfile.BadZipFile: If it is compressed, its parts overlap, or a check sum is wrong.
    """
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        compressed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
        if compressed or sum(part.file_size for part in parts) > path.stat().st_size:
            raise zipfile.BadZipFile("compressed parts, as torch never writes them")
        for part in parts:
            if part.filename.endswith(".pkl") and part.file_size > _LARGEST_PICKLE:
                raise zipfile.BadZipFile(f"{part.file_size / 2**20:,.0f} MiB of plain values")
        if damaged := archive.testzip():  # torch does not verify the check sums
            raise zipfile.BadZipFile(f"check sum of {damaged}")


def weights_fault(state: Mapping[Any, Any]) -> str:
    """Describe the first entry that is no dense tensor of finite real numbers with a name.

    Args:
        state: Weights from a file.

    Returns:
        Its kind and name; empty if there is none.
    """
    for name, value in state.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            return f"{name!r}, which is no tensor by name"
    infinite = (
        f"numbers that are not finite in {name}"
        for name, value in state.items()
        if value.is_floating_point() and not bool(value.isfinite().all())
    )
    return other_values(state) or next(infinite, "")


def other_values(content: Any) -> str:
    """Describe the first value that is no dense tensor of real numbers and no plain value.

    Args:
        content: What torch has loaded: nested mappings and lists.

    Returns:
        Its name and kind; empty if there is none.
    """
    waiting = [("", content, 0)]
    for _ in range(_MOST_VALUES):
        if not waiting:
            return ""
        name, value, depth = waiting.pop()
        if depth > DEEPEST:
            return f"more than {DEEPEST} levels of nesting in {name[:60]}"
        if isinstance(value, dict | list | tuple | set):
            parts = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [(f"{name}.{key}" if name else str(key), v, depth + 1) for key, v in parts]
        elif kind := _kind_of(value) if isinstance(value, Tensor) else _other(value):
            return f"{kind} in {name}"
    return f"more than {_MOST_VALUES:,} values"


def _kind_of(tensor: Tensor) -> str:
    """Return the kind of a tensor that no model has; else an empty text."""
    if tensor.layout != torch.strided or tensor.is_quantized:
        return f"a {'quantized' if tensor.is_quantized else 'sparse'} tensor"
    if tensor.device.type != "cpu":
        return f"a tensor without content ({tensor.device.type})"
    if tensor.is_complex():
        return "a tensor of complex numbers"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"a tensor that repeats its numbers to the shape {tuple(tensor.shape)}"
    return ""


def _other(value: Any) -> str:
    return "" if isinstance(value, _PLAIN) else _a(value)


def _a(value: Any) -> str:
    return f"a {type(value).__name__}"


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
