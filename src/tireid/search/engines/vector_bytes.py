"""Unit-norm vectors as bytes: float32, float16, or int8 with a scale for each vector."""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

STORAGES = ("float16", "float32", "int8")
_FLOATS = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}
_SCALE = np.dtype("<f4")


def to_bytes(vectors: Float[Tensor, "rows dim"], storage: str) -> list[bytes]:
    """Return each vector as bytes, in one of `STORAGES`."""
    values = vectors.numpy()
    if storage in _FLOATS:
        return [row.tobytes() for row in values.astype(_FLOATS[storage])]
    scales = np.abs(values).max(axis=1, keepdims=True).astype(_SCALE) / np.float32(127)
    rounded = np.rint(values / np.where(scales == 0, 1, scales)).astype(np.int8)
    return [
        scale.astype(_SCALE).tobytes() + row.tobytes()
        for scale, row in zip(scales, rounded, strict=True)
    ]


def from_bytes(rows: Iterable[object], dim: int, storage: str) -> Float[Tensor, "rows dim"]:
    """Return the vectors of `to_bytes` in float32.

    Raises:
        ValueError: If a row is none of its bytes, or holds what is no number.
    """
    size = _FLOATS[storage].itemsize * dim if storage in _FLOATS else _SCALE.itemsize + dim
    content = b"".join(_checked(row, size) for row in rows)
    vectors = _unpacked(content, dim, storage)
    if not torch.isfinite(vectors).all():
        raise ValueError("expected vectors of finite numbers, got others")
    return vectors


def _checked(row: object, size: int) -> bytes:
    if type(row) is not bytes or len(row) != size:
        raise ValueError(f"expected vectors of {size} bytes each, got {row!r:.60}")
    return row


def _unpacked(content: bytes, dim: int, storage: str) -> Float[Tensor, "rows dim"]:
    if storage in _FLOATS:
        values = np.frombuffer(content, _FLOATS[storage]).reshape(-1, dim).astype(np.float32)
        return torch.from_numpy(values)
    packed = np.frombuffer(content, np.int8).reshape(-1, _SCALE.itemsize + dim)
    scales = packed[:, : _SCALE.itemsize].copy().view(_SCALE).astype(np.float32)
    return torch.from_numpy(packed[:, _SCALE.itemsize :].astype(np.float32) * scales)
