"""Learning-rate schedules, as functions from an optimiser to Lightning's scheduler entry."""

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(
    optimizer: Optimizer,
    *,
    total_steps: int,
    warmup_fraction: float = 0.1,
    final_fraction: float = 0.0,
) -> dict[str, Any]:
    """Rise linearly, then fall as half a cosine; stepped after every batch.

    Args:
        optimizer: Whose groups' rates are scaled.
        total_steps: Optimiser steps of the whole run.
        warmup_fraction: Share of the steps that rise, in [0, 1).
        final_fraction: Share of the rate left at the end, in [0, 1].
    """
    if not 0 <= warmup_fraction < 1:
        raise ValueError(f"warmup_fraction: expected a share in [0, 1), got {warmup_fraction}")
    warmup_steps = round(total_steps * warmup_fraction)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return final_fraction + (1 - final_fraction) * _half_cosine(step, warmup_steps, total_steps)

    return {"scheduler": LambdaLR(optimizer, factor), "interval": "step", "name": "lr"}


def warmup_cosine_epochs(
    optimizer: Optimizer,
    *,
    total_steps: int,
    epochs: int,
    warmup_epochs: int = 5,
    warmup_start: float = 0.1,
) -> dict[str, Any]:
    """Rise linearly, then fall to 0 as half a cosine; stepped after every epoch.

    Args:
        optimizer: Whose groups' rates are scaled.
        total_steps: Not used; part of the schedules' common signature.
        epochs: Length of the run; the epoch after it would have rate 0.
        warmup_epochs: Epochs before the full rate.
        warmup_start: Share of the rate in the first of them, in (0, 1].

    Source:
        IRRA's official code, `solver/lr_scheduler.py`: 60 epochs, 5 of warm-up from 0.1.
    """
    _check_warmup(warmup_epochs, warmup_start)

    def factor(epoch: int) -> float:
        if epoch < warmup_epochs:
            return warmup_start + (1 - warmup_start) * epoch / warmup_epochs
        return _half_cosine(epoch, warmup_epochs, epochs)

    return {"scheduler": LambdaLR(optimizer, factor), "interval": "epoch", "name": "lr"}


def multistep(
    optimizer: Optimizer,
    *,
    total_steps: int,
    milestones: list[int],
    gamma: float = 0.1,
    stepping: str = "corrected",
    warmup_epochs: int = 0,
    warmup_start: float = 0.01,
) -> dict[str, Any]:
    """Multiply the rates by `gamma` at each milestone; stepped after every epoch.

    Args:
        optimizer: Whose groups' rates are scaled.
        total_steps: Not used; part of the schedules' common signature.
        milestones: Numbers of whole epochs at the rate before.
        gamma: Factor at each milestone.
        stepping: `corrected` trains exactly `milestones[0]` epochs at the full rate. The official
            LGUR code steps its scheduler before each epoch, so that every drop comes one epoch
            early: `official` does that.
        warmup_epochs: Epochs in which the rates rise linearly to their full value; 0: none.
        warmup_start: Share of the rate in the first of them, in (0, 1].
    """
    if stepping not in ("corrected", "official"):
        raise ValueError(f"stepping: expected 'corrected' or 'official', got {stepping!r}")
    _check_warmup(warmup_epochs, warmup_start)
    # Official code: epochs 1-19 at the full rate for a milestone of 20. Here: 1-20.
    early = 1 if stepping == "official" else 0

    def factor(epoch: int) -> float:
        rise = min(1.0, epoch / warmup_epochs) if warmup_epochs else 1.0
        warm = warmup_start + (1 - warmup_start) * rise
        return warm * gamma ** sum(epoch >= milestone - early for milestone in milestones)

    return {"scheduler": LambdaLR(optimizer, factor), "interval": "epoch", "name": "lr"}


def _half_cosine(position: int, first: int, end: int) -> float:
    """Fall from 1 at `first` to 0 at `end`, and stay there."""
    progress = min(1.0, (position - first) / max(1, end - first))
    return 0.5 * (1 + math.cos(math.pi * progress))


def _check_warmup(warmup_epochs: int, warmup_start: float) -> None:
    if warmup_epochs < 0 or not 0 < warmup_start <= 1:
        raise ValueError(
            "warmup_epochs, warmup_start: expected at least 0 and a share in (0, 1], "
            f"got {warmup_epochs} and {warmup_start}"
        )
