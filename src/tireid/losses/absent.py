"""A stand-in for a loss of another package, which inference does not need."""

from typing import Any

from torch import nn

from tireid.structures import Scalar


class AbsentLoss(nn.Module):
    """Takes the place of a loss, so that a model can be built that is only used.

    Args:
        name: The class that is not built.
    """

    def __init__(self, *, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, *_: Any, **__: Any) -> Scalar:
        """Refuse to compute.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"expected {self.name} to train with, got a model built without it")

    per_pair = forward  # of a loss that is a sum over pairs
