"""The arithmetic that a model computes in, by the names that `lightning.Trainer` has for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

_Module = TypeVar("_Module", bound=nn.Module)
_WHOLE = {
    "32-true": None,
    "64-true": torch.float64,
    "16-true": torch.float16,
    "bf16-true": torch.bfloat16,
}
_MIXED = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
_OLDER = {"32": "32-true", "64": "64-true", "16": "16-mixed", "bf16": "bf16-mixed"}


class Arithmetic:
    """What Lightning does to a model and its inputs for a `precision`, without Lightning.

    Args:
        precision: `32-true`, `bf16-mixed`, ..., or an older name, such as 32.

    Attributes:
        name: Name of the precision.

    Raises:
        ValueError: If there is no such precision.
    """

    def __init__(self, precision: str | int) -> None:
        self.name = _OLDER.get(str(precision), str(precision))
        names = [*_WHOLE, *_MIXED]
        if self.name not in names:
            raise ValueError(f"precision: expected one of {names}, got {precision!r}")
        self._whole, self._mixed = _WHOLE.get(self.name), _MIXED.get(self.name)

    def module(self, module: _Module) -> _Module:
        """Return a model whose weights are of the precision's type."""
        return module if self._whole is None else module.to(self._whole)

    def inputs(self, images: Tensor) -> Tensor:
        """Return images of the type that the model takes."""
        return images if self._whole is None else images.to(self._whole)

    @contextmanager
    def of(self, device: torch.device) -> Iterator[None]:
        """Compute so in the block."""
        if self._mixed is not None:
            with torch.autocast(device.type, dtype=self._mixed, cache_enabled=False):
                yield
            return
        usual = torch.get_default_dtype()
        torch.set_default_dtype(self._whole or usual)
        try:
            yield
        finally:
            torch.set_default_dtype(usual)
