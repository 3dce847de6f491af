"""How far a training is, how fast it goes and how long it still takes."""

import time
from collections import deque
from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

import lightning as L
import torch
from torch import nn

from tireid.console import duration
from tireid.metrics.names import METRICS

_RECENT = 50  # steps that the rate is a mean of


class News(NamedTuple):
    """A training at a moment, in words.

    Attributes:
        step: Steps done, of all.
        epoch: Number of the epoch, from 1, of all.
        facts: Loss, rate, time left and last validation, as far as they are known, by their names.
    """

    step: str
    epoch: str
    facts: dict[str, str]


class Pace:
    """Times the steps of a training.

    The first step is not timed: in it memory is allocated, and code compiled.

    Args:
        validation_split: Prefix of the validation metrics.
        clock: Seconds since some moment.
    """

    def __init__(
        self, validation_split: str = "val", clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.split = validation_split
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._since: float | None = None
        self._step = 0
        self._validation_began = 0.0
        self._validation = 0.0  # seconds of the last one

    @property
    def timed(self) -> int:
        """Number of steps that the rate is taken from."""
        return len(self._recent)

    def begin(self, trainer: L.Trainer) -> None:
        """Start at the step that a training begins with, which is not 0 where it is resumed."""
        self._recent.clear()
        self._since, self._step = None, trainer.global_step

    def step(self, trainer: L.Trainer) -> None:
        """Count a batch that is done; a part of a batch is no step."""
        if trainer.global_step == self._step:
            return
        now = self._clock()
        if self._since is not None:
            self._recent.append((now - self._since) / (trainer.global_step - self._step))
        self._since, self._step = now, trainer.global_step

    def validate(self) -> None:
        """Stop the clock of steps: a validation begins."""
        self._validation_began = self._clock()

    def go_on(self) -> None:
        """Start the clock of steps again after a validation."""
        now = self._clock()
        self._validation = now - self._validation_began
        self._since = None if self._since is None else now

    def news(self, trainer: L.Trainer) -> News:
        """Return the state of a training; waits for the GPU where the loss is on one."""
        steps, epochs = trainer.estimated_stepping_batches, trainer.max_epochs
        metrics = trainer.callback_metrics
        facts = {}
        if "train/loss" in metrics:
            facts["loss"] = f"{float(metrics['train/loss']):.3f}"
        if self._recent:
            rate = len(self._recent) / max(sum(self._recent), 1e-9)
            facts["rate"] = f"{rate:.2f} steps/s"
            share = max(0.0, 1 - self._step / steps)
            seconds = share * (steps / rate + max(epochs or 0, 0) * self._validation)
            facts["left"] = duration(seconds)
        if f"{self.split}/R1" in metrics:
            label = f"{self.split} {METRICS['R1'].label}"
            facts[label] = f"{float(metrics[f'{self.split}/R1']):.2f}"
        return News(f"{self._step:,}/{steps:,}", epoch_of(trainer), facts)


def epoch_of(trainer: L.Trainer) -> str:
    """Return the number of a training's epoch, from 1, and of how many it is."""
    of = trainer.max_epochs if (trainer.max_epochs or -1) > 0 else "?"
    return f"{trainer.current_epoch + 1}/{of}"


def checkpoint_size(trainer: L.Trainer, module: nn.Module) -> int:
    """Return about how many bytes a checkpoint of a training takes.

    Counted are the weights and what the optimiser keeps of each trained one, which of most
    optimisers is known before their first step.
    """
    size = sum(tensor.nbytes for tensor in module.state_dict().values())
    for group in chain.from_iterable(optimizer.param_groups for optimizer in trainer.optimizers):
        kept = 1 if group.get("momentum") else 2 * ("betas" in group)
        size += kept * sum(p.nbytes for p in group["params"] if isinstance(p, torch.Tensor))
    return size
