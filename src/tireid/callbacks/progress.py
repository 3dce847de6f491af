"""Show progress: a bar on a terminal, lines in a file, and one line per epoch."""

import math
import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ProgressBar, RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn

from tireid.callbacks.pace import Pace, checkpoint_size, epoch_of
from tireid.console import say, show
from tireid.metrics.names import headlines

_FIRST = 10  # timed steps before the first line
_SHOWN_FOR = 0.3  # seconds between two updates of the bar's text, which may wait for the GPU


class QuietProgressBar(ProgressBar):
    """No bar and no lines; `EpochLines` shows how far the run is.

    Args:
        **_: Those of `make_progress_bar`, which it stands in for; they do nothing.
    """

    def __init__(self, **_: Any) -> None:
        super().__init__()

    def enable(self) -> None:
        """Do nothing."""

    def disable(self) -> None:
        """Do nothing."""


class _Paced(ProgressBar):
    """Tells a pace what a training does, before the bar is told."""

    pace: Pace

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self.pace.begin(trainer)
        super().on_train_start(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the step."""
        self.pace.step(trainer)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell training from validation."""
        self.pace.validate()
        super().on_validation_start(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell validation from training."""
        self.pace.go_on()
        super().on_validation_end(trainer, pl_module)


class ProgressLines(_Paced, QuietProgressBar):
    """Print a line after the first steps and then every so many minutes, for output to a file.

    Args:
        minutes: Time between two lines.
        validation_split: Prefix of the validation metrics.
    """

    def __init__(self, minutes: float | int = 1, validation_split: str = "val") -> None:
        super().__init__()
        self.minutes = minutes
        self.pace = Pace(validation_split)
        self._said = -math.inf  # when the last line was printed

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print a first line soon."""
        super().on_train_start(trainer, pl_module)
        self._said = -math.inf

    def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any, **named: Any) -> None:
        """Print a line if it is time."""
        super().on_train_batch_end(trainer, *arguments, **named)
        self._say(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *arguments: Any, **named: Any) -> None:
        """Print a line if it is time."""
        self._say(trainer)

    def _say(self, trainer: L.Trainer) -> None:
        now = time.monotonic()
        is_time = now >= self._said + 60 * self.minutes
        if not trainer.is_global_zero or self.pace.timed < _FIRST or not is_time:
            return
        self._said = now
        news = self.pace.news(trainer)
        facts = {"step": news.step, "epoch": news.epoch} | news.facts
        say("   ".join(f"{name} {text}" for name, text in facts.items()))


class RunBar(_Paced, RichProgressBar):
    """Lightning's bar of an epoch, with epochs from 1 and the time that is left of the whole run.

    Args:
        refresh_rate: Updates a second.
        validation_split: Prefix of the validation metrics.
    """

    def __init__(self, refresh_rate: int = 5, validation_split: str = "val") -> None:
        theme = RichProgressBarTheme(metrics_text_delimiter="   ")
        super().__init__(refresh_rate=refresh_rate, leave=False, theme=theme)
        self.pace = Pace(validation_split)
        self._shown: dict[str, str] = {}
        self._shown_at = -math.inf

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Return what stands behind the bar."""
        if time.monotonic() >= self._shown_at + _SHOWN_FOR:
            self._shown_at, self._shown = time.monotonic(), self.pace.news(trainer).facts
        return dict(self._shown)

    def configure_columns(self, trainer: L.Trainer) -> list[ProgressColumn]:
        """Return the columns before the metrics; rate and time left are among these."""
        text = TextColumn("[progress.description]{task.description}")
        return [text, BarColumn(bar_width=24), MofNCompleteColumn()]

    def _get_train_description(self, current_epoch: int) -> str:  # private to Lightning
        return f"Epoch {epoch_of(self.trainer)}"


def make_progress_bar(
    refresh_rate: int = 5, minutes: float | int = 1, validation_split: str = "val"
) -> ProgressBar:
    """Return a bar for a terminal, and lines for a file.

    Args:
        refresh_rate: Updates of the bar a second.
        minutes: Time between two lines.
        validation_split: Prefix of the validation metrics.
    """
    if not Console().is_terminal:
        return ProgressLines(minutes, validation_split)
    return RunBar(refresh_rate, validation_split)


class EpochLines(Callback):
    """Print what is ahead, and one line per epoch: loss, validation metrics, seconds.

    Args:
        validation_split: Prefix of the validation metrics; `test` is printed in red.
    """

    def __init__(self, validation_split: str = "val") -> None:
        self.split = validation_split
        self._started = 0.0
        self._losses: list[Any] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say what is ahead; start the clock of an epoch that a resumed run continues."""
        self._started = time.perf_counter()
        if trainer.is_global_zero:
            steps, size = trainer.estimated_stepping_batches, checkpoint_size(trainer, pl_module)
            ahead = (
                f"{steps:,} steps in {trainer.max_epochs} epoch{'s' * (trainer.max_epochs != 1)}"
            )
            say(f"{ahead}; a checkpoint takes about {size / 1e6:,.1f} MB")

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
        split = "[bold red]test[/bold red]" if self.split == "test" else self.split
        shown = {label: f"{self.split}/{name}" for name, label in headlines().items()}
        metrics = trainer.callback_metrics
        parts = [
            f"epoch {epoch_of(trainer):>5}",
            f"loss {loss:8.3f}",
            *(f"{split} {n} {float(metrics[k]):5.2f}" for n, k in shown.items() if k in metrics),
            f"{time.perf_counter() - self._started:5.1f} s",
        ]
        show("   ".join(parts))
