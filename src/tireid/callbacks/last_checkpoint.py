"""The checkpoint that a run continues from: written every few minutes and after each epoch."""

import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from tireid.callbacks import stop_signals
from tireid.callbacks.best_checkpoint import BestCheckpoint
from tireid.callbacks.chance import generator_states, set_generator_states
from tireid.callbacks.checkpoint_io import LAST, PREVIOUS
from tireid.callbacks.csv_rows import logged_rows, restore_rows
from tireid.callbacks.loop_progress import batches_done, settle

STATE = "tireid"  # our part of a checkpoint
_GO_ON, _SAVE, _STOP = range(3)


class LastCheckpoint(Checkpoint):
    """Write `last.ckpt` such that a run continues from it as if it had never stopped.

    It is written before a step's first move, when all that belongs to the step before is done:
    its log, its validation, the best checkpoint. The one before stays as `last_previous.ckpt`
    until training has ended.

    Args:
        dirpath: Folder of the checkpoints.
        minutes: Time between two checkpoints within an epoch; None: only after each epoch.
        every_n_train_steps: Steps between two checkpoints; None: no such rule.

    Attributes:
        settings: What the run depends on, in one word; kept in the file.
        monitor: None: it is not chosen by a metric.
    """

    monitor = None

    def __init__(
        self,
        dirpath: str,
        minutes: float | int | None = 5,
        every_n_train_steps: int | None = None,
    ) -> None:
        self.path = Path(dirpath) / LAST
        self.previous = Path(dirpath) / PREVIOUS
        self.minutes = minutes
        self.every_n_train_steps = every_n_train_steps
        self.settings = ""
        self._resumed: dict[str, Any] | None = None
        self._writing = False
        self._validation_due = False
        self._keep_previous = False
        self._saved_step = 0
        self._saved_at = 0.0
        self._epoch_ended = False

    @property
    def best_model_path(self) -> str:
        """The checkpoint; empty where none was written."""
        return str(self.path) if self.path.is_file() else ""

    def clear(self) -> None:
        """Remove the checkpoints of an earlier run, to begin anew."""
        for file in (self.path, self.previous):
            file.unlink(missing_ok=True)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take signals over; tell the model the epoch that it continues in the middle of."""
        launcher = trainer.strategy.launcher
        stop_signals.listen(getattr(launcher, "kill", None) if launcher else None)
        stop_signals.hold()
        for best in _best(trainer):
            best.keeps_superseded = True
        self._saved_at = time.monotonic()
        if self._resumed is not None:
            if self._resumed["logged_steps"] is not None:  # nothing of this step is left to do
                self._saved_step = trainer.global_step
            # What Lightning does at the beginning of an epoch only, or too early to be of use: it
            # asks for the loader before it knows that it restarts.
            pl_module.on_train_epoch_start()
            trainer.train_dataloader.load_state_dict({"batches": self._resumed["batches"]})  # pyright: ignore[reportOptionalMemberAccess] -- training has one

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Finish a resumption, or write the checkpoint of the step before if it is due."""
        if self._resumed is not None:
            self._finish_resumption(trainer)
        if batch_idx % trainer.accumulate_grad_batches:
            return  # gradients of a part of a batch are in no checkpoint
        decision = self._decide(trainer)
        if decision != _GO_ON:
            self._save(trainer)
        if decision == _STOP:
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember that a checkpoint is due, after all that an epoch ends with."""
        self._epoch_ended = True

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop before the validation if that is asked for; within it, a signal needs no wait."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        stop_signals.listen()
        if self._decide(trainer) == _STOP:
            self._validation_due = True
            self._save(trainer)
            self._stop(trainer)
        stop_signals.release()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take up training, whose steps are finished whatever comes."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            stop_signals.hold()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the checkpoint of the whole training."""
        self._save(trainer)
        stop_signals.release()
        if self._decide(trainer) == _STOP:
            self._stop(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove what only an unfinished training needs."""
        if trainer.is_global_zero and self.path.is_file():
            self.previous.unlink(missing_ok=True)
            for best in _best(trainer):
                best.remove_superseded()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take signals over from Lightning, whose handlers may block."""
        stop_signals.listen()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Let signals end a process that is going down."""
        stop_signals.release()

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what Lightning leaves out: generators, the log's rows, a wish to stop early."""
        own: dict[str, Any] = {
            "settings": self.settings,
            "method": type(pl_module).__name__,
            "generators": generator_states(trainer.strategy.root_device),
            "should_stop": trainer.should_stop,
            "rows": logged_rows(trainer),
            "logged_steps": None,
        }
        fit = checkpoint["loops"]["fit_loop"]
        own["batches"] = batches_done(fit)
        if self._writing:
            own["logged_steps"] = settle(fit, validation_due=self._validation_due)
            # As in all checkpoints: the epoch of the last step.
            done = fit["epoch_progress"]["current"]["processed"]
            checkpoint["epoch"] = done if own["batches"] else done - 1
        checkpoint[STATE] = own

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep that for the first step; the log is restored at once."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        state: dict[str, Any] = checkpoint[STATE]
        self._resumed = state
        # A damaged file must not take the place of the good one that the run continues from.
        self._keep_previous = Path(str(trainer.ckpt_path or "")).name == LAST
        trainer.should_stop = state["should_stop"]
        restore_rows(trainer, state["rows"])

    def _finish_resumption(self, trainer: L.Trainer) -> None:
        state, self._resumed = self._resumed or {}, None
        if state["logged_steps"] is not None:
            trainer.fit_loop.epoch_loop._batches_that_stepped = state["logged_steps"]
        device = trainer.strategy.root_device
        set_generator_states(state["generators"], trainer.global_rank, device)

    def _decide(self, trainer: L.Trainer) -> int:
        """Return what all processes do now: what any of them is asked for."""
        wanted = _GO_ON
        if trainer.is_global_zero and self._due(trainer.global_step):
            wanted = _SAVE
        if stop_signals.requested():
            wanted = _STOP
        if trainer.world_size == 1:
            return wanted
        every = torch.tensor([wanted], device=trainer.strategy.root_device)
        torch.distributed.all_reduce(every, torch.distributed.ReduceOp.MAX)
        return int(every.item())

    def _due(self, step: int) -> bool:
        if step == self._saved_step:
            return False
        late = self.minutes is not None and time.monotonic() - self._saved_at >= 60 * self.minutes
        counted = self.every_n_train_steps is not None and step % self.every_n_train_steps == 0
        return late or counted or self._epoch_ended

    def _save(self, trainer: L.Trainer) -> None:
        """Write the file, if there is anything new to write."""
        if trainer.global_step == self._saved_step:
            return
        self._writing = True
        try:
            previous = str(self.previous) if self._keep_previous else None
            trainer.save_checkpoint(self.path, storage_options=previous)
        finally:
            self._writing = False
        if trainer.is_global_zero:
            for best in _best(trainer):
                best.remove_superseded()
        self._keep_previous = True
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()
        self._epoch_ended = False

    def _stop(self, trainer: L.Trainer) -> None:
        environment: Any = getattr(trainer.strategy, "cluster_environment", None)
        launched = environment is not None and not environment.creates_processes_externally
        # Lightning kills the main process when one that it has launched reports a failure.
        code = 0 if launched and trainer.local_rank else stop_signals.EXIT_CODE
        stop_signals.stop(
            f"step {trainer.global_step} is in {self.path}; the same settings continue it, with "
            "ckpt_path=last where the run folder has a time stamp",
            code,
        )


def _best(trainer: L.Trainer) -> list[BestCheckpoint]:
    return [one for one in trainer.checkpoint_callbacks if isinstance(one, BestCheckpoint)]
