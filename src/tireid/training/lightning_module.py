"""A method as Lightning trains and evaluates it: its steps, what is logged, its optimiser."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from tireid.losses.gather import mean_over_processes
from tireid.methods.base import RetrievalModule, TrainingPass
from tireid.methods.optimization import optimizer_of
from tireid.structures import Features, ImageBatch, PairBatch, TextBatch


class LightningMethod(L.LightningModule):
    """Any method, for the trainer. Weights have the names that they have in the method.

    Args:
        method: The method.

    Attributes:
        method: The method.
        latest_terms: Weighted terms of the latest training step, by name, without gradient.

    Raises:
        ValueError: If the method has steps or hooks of a `LightningModule`, which nobody calls.
    """

    latest_terms: dict[str, Tensor]

    def __init__(self, method: RetrievalModule) -> None:
        super().__init__()
        _check_hooks(type(method))
        self.method = method
        self.latest_terms = {}
        alike = getattr(method, "_ddp_params_and_buffers_to_ignore", None)
        if alike is not None:
            self._ddp_params_and_buffers_to_ignore = [f"method.{name}" for name in alike]

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the method's."""
        return self.method.state_dict(*args, **kwargs)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load the method's."""
        return self.method.load_state_dict(state_dict, strict, assign)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the method add to it."""
        self.method.on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the method restore what it has added."""
        self.method.on_load_checkpoint(checkpoint)

    def on_fit_start(self) -> None:
        """Let dropout differ between ranks, which were all seeded alike."""
        if self.global_rank > 0:
            torch.manual_seed(torch.initial_seed() + 998_244_353 * self.global_rank)

    def on_train_start(self) -> None:
        """Tell the method how long the training is."""
        steps = self.trainer.estimated_stepping_batches
        self.method.begin_training(steps, self.trainer.max_epochs or 1)

    def on_train_epoch_start(self) -> None:
        """Pass the epoch on to the method and to the modules in it that depend on it."""
        for module in self.method.modules():
            if module is not self.method and hasattr(module, "set_epoch"):
                module.set_epoch(self.current_epoch)  # pyright: ignore[reportCallIssue] -- nn.Module attribute
        self.method.begin_epoch(self.current_epoch, self._training_pass)

    def _training_pass(self, key: int, *, augmented: bool) -> TrainingPass:
        data: Any = getattr(self.trainer, "datamodule")  # noqa: B009 -- set by Trainer's connector
        return _Pass(data.training_pass(key, augmented=augmented), self.trainer)

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """Sum the terms of the loss, and log what the method measures besides."""
        terms = self.method.training_terms(batch, self.global_step)
        if measured := self.method.measurements(terms, self.global_step):
            self._log_row(measured)
        return self.total_loss(terms.terms, len(batch.pid))

    def _log_row(self, measured: Mapping[str, Tensor]) -> None:
        # Not by `log_dict`, which would repeat them in later rows or, at an epoch's end, drop them.
        values = torch.stack(list(measured.values())).tolist()  # one wait for a GPU, not several
        names = [f"train/{name}" for name in measured]
        row = dict(zip(names, values, strict=True))
        for logger in self.loggers:
            logger.log_metrics({**row, "epoch": self.current_epoch}, step=self.global_step)

    def total_loss(self, terms: Mapping[str, Tensor], batch_size: int) -> Tensor:
        """Log each weighted term and the sum, averaged over ranks, and return this rank's sum."""
        values = torch.stack(list(terms.values()))
        total = values.sum()
        shown = mean_over_processes(values)
        self.latest_terms = dict(zip(terms, shown, strict=True))
        logged = {f"train/loss_{name}": term for name, term in self.latest_terms.items()}
        logged["train/loss"] = shown.sum()
        self.log_dict(logged, on_step=True, on_epoch=False, batch_size=batch_size)
        return total

    def validation_step(
        self, batch: TextBatch | ImageBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> Features:
        """Embed; the retrieval callback collects."""
        return self.method.embed(batch)

    test_step = validation_step

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the method's optimiser and schedule."""
        steps = int(self.trainer.estimated_stepping_batches)
        optimizer, schedule = optimizer_of(self.method, steps)
        entry: Any = schedule
        return {"optimizer": optimizer, "lr_scheduler": entry}


class _Pass(TrainingPass):
    """Over a loader of the trainer's data, on its device."""

    def __init__(self, loader: Any, trainer: L.Trainer) -> None:
        self._loader, self._trainer = loader, trainer

    def __len__(self) -> int:
        return len(self._loader.dataset)

    def compute(
        self, function: Callable[[PairBatch], Tensor]
    ) -> Iterator[tuple[PairBatch, Tensor]]:
        trainer = self._trainer
        for batch in islice(self._loader, int(trainer.num_training_batches) + 1):
            batch = trainer.strategy.batch_to_device(batch)
            with trainer.precision_plugin.forward_context():
                computed = function(batch)
            yield batch, computed


def _check_hooks(kind: type[RetrievalModule]) -> None:
    """Check that a method written for Lightning does not wait for hooks that are not called."""
    stray = [
        name
        for name in dir(L.LightningModule)
        if (name.startswith("on_") or name.endswith("_step") or name == "configure_optimizers")
        and hasattr(kind, name)
        and not hasattr(RetrievalModule, name)
    ]
    if stray:
        raise ValueError(
            f"{kind.__name__}: expected a method without a trainer's steps and hooks, got "
            f"{', '.join(stray)}; put them into training_terms, measurements, begin_training, "
            "begin_epoch or parameter_groups, see docs/extending.md"
        )
