"""Show progress: a bar on a terminal, and one line per epoch."""

import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ProgressBar, RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from rich.console import Console

from tireid.console import show
from tireid.metrics.names import headlines


class QuietProgressBar(ProgressBar):
    """No bar, for output that goes to a file; `EpochLines` shows how far the run is."""

    def enable(self) -> None:
        """Do nothing."""

    def disable(self) -> None:
        """Do nothing."""


def make_progress_bar(refresh_rate: int = 5) -> ProgressBar:
    """Return a bar for a terminal and none for a file.

    Args:
        refresh_rate: Batches between two updates.
    """
    if not Console().is_terminal:
        return QuietProgressBar()
    return RichProgressBar(
        refresh_rate=refresh_rate, leave=False, theme=RichProgressBarTheme(metrics_format=".2f")
    )


class EpochLines(Callback):
    """Print one line per epoch: loss, validation metrics, seconds.

    Args:
        validation_split: Prefix of the validation metrics; `test` is printed in red.
    """

    def __init__(self, validation_split: str = "val") -> None:
        self.split = validation_split
        self._started = 0.0
        self._losses: list[Any] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of an epoch that a resumed run continues."""
        self._started = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the epoch's clock."""
        self._started = time.perf_counter()
        self._losses = []

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the loss, on its device."""
        self._losses.append(outputs["loss"].detach())

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line; validation has run by now."""
        losses = torch.stack(self._losses or [torch.zeros(())])
        loss = losses.float().cpu().mean()  # one copy from the GPU, not one per step
        loss = float(trainer.strategy.reduce(loss.to(pl_module.device), reduce_op="mean"))
        if not trainer.is_global_zero:
            return
        label = "[bold red]test[/bold red]" if self.split == "test" else self.split
        shown = {name: f"{self.split}/{name}" for name in headlines()}
        metrics = trainer.callback_metrics
        parts = [
            f"epoch {trainer.current_epoch + 1:>3}/{trainer.max_epochs}",
            f"loss {loss:8.3f}",
            *(f"{label} {n} {float(metrics[k]):5.2f}" for n, k in shown.items() if k in metrics),
            f"{time.perf_counter() - self._started:5.1f} s",
        ]
        show("   ".join(parts))
