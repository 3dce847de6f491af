"""The checkpoint that a run resumes from, written atomically, and when it is written."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from tireid.checkpoints import stop_signals
from tireid.checkpoints.best_checkpoint import BestCheckpoint
from tireid.checkpoints.run_state import Resumption, add_state
from tireid.checkpoints.schedule import CheckpointSchedule
from tireid.checkpoints.stopping import Decision, decide, stop
from tireid.runs.checkpoint import LAST, PREVIOUS, read_checkpoint, write_checkpoint
from tireid.runs.settings import CONFIG_FILE, fingerprint, read_config


class AtomicCheckpointIO(CheckpointIO):
    """Write checkpoints atomically and read them without running anything in them."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint; `storage_options` may name a path to keep the replaced file under."""
        write_checkpoint(checkpoint, Path(path), previous=storage_options)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU; the other arguments have no effect."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint if it exists."""
        Path(path).unlink(missing_ok=True)


class LastCheckpoint(Checkpoint):
    """Write `last.ckpt`, from which a run resumes as if it had never stopped.

    It is written as a step begins, when all that belongs to the step before is done: its log, its
    validation, the best checkpoint. The file before stays as `last_previous.ckpt` until training
    has ended.

    Args:
        dirpath: Folder of the checkpoints.
        minutes: Time between two checkpoints within an epoch; None: only after each epoch.
        every_n_train_steps: Steps between two checkpoints; None: no such rule.

    Attributes:
        settings: Hash of the run's config, stored in the checkpoint; empty where there is none.
        data: Hashes of the splits that the run is trained and measured on, stored likewise.
        monitor: None, since no metric chooses this checkpoint.
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
        self.schedule = CheckpointSchedule(minutes, every_n_train_steps)
        self.settings = ""
        self.data: dict[str, str] = {}
        self._resumption: Resumption | None = None
        self._writing = False
        self._validation_due = False
        self._keep_previous = False

    @property
    def best_model_path(self) -> str:
        """The checkpoint; empty if none was written."""
        return str(self.path) if self.path.is_file() else ""

    def clear(self) -> None:
        """Remove the checkpoints of an earlier run, for a run that starts from scratch."""
        for file in (self.path, self.previous):
            file.unlink(missing_ok=True)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the states of a resumed optimiser and schedule, which are restored next."""
        if self._resumption is not None:
            self._resumption.check_fits(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hold signals from now on; tell a resumed model and loader their place in the epoch."""
        stop_signals.listen()
        stop_signals.hold()
        folder = self.path.parents[1]
        if (folder / CONFIG_FILE).is_file():
            self.settings = fingerprint(read_config(folder))
        if (datamodule := getattr(trainer, "datamodule", None)) is not None:
            self.data = datamodule.fingerprints()
        for best in _best_checkpoints(trainer):
            best.keeps_superseded = True
        resumption = self._resumption
        at_checkpoint = resumption is not None and resumption.step_is_done
        self.schedule.start(trainer.global_step if at_checkpoint else None)
        if resumption is not None:
            resumption.restore_place(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Finish a resumption, or write the checkpoint of the step before if it is due."""
        if self._resumption is not None:
            self._resumption.restore_counters(trainer)
            self._resumption = None
        if batch_idx % trainer.accumulate_grad_batches:
            return  # a checkpoint holds no gradients of a part of a batch
        decision = self._decide(trainer)
        if decision != Decision.GO_ON:
            self._save(trainer)
        if decision == Decision.STOP:
            stop(trainer, self.path)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make a checkpoint due, to be written after all that ends an epoch."""
        self.schedule.epoch_ended()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop before the validation if a signal has come."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            stop_signals.listen()
            self._stop_before_validation(trainer)

    def on_validation_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop within the validation; the resumed run does all of it."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._stop_before_validation(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the checkpoint of the whole training."""
        self._save(trainer)
        stop_signals.release()
        if self._decide(trainer) == Decision.STOP:
            stop(trainer, self.path)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove what only an unfinished training needs."""
        if trainer.is_global_zero and self.path.is_file():
            self.previous.unlink(missing_ok=True)
            for best in _best_checkpoints(trainer):
                best.remove_superseded()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Replace Lightning's signal handlers, which may block."""
        stop_signals.listen()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Let signals end a process that is failing."""
        stop_signals.release()

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what Lightning leaves out."""
        add_state(
            trainer,
            pl_module,
            checkpoint,
            self.settings,
            self.data,
            between_steps=self._writing,
            validation_due=self._validation_due,
        )

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore the log; keep the rest for the start and the first step of training."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        self._resumption = Resumption(trainer, checkpoint)
        # A damaged last.ckpt must not replace the good file that the run resumes from.
        self._keep_previous = self._resumption.from_name == LAST

    def _decide(self, trainer: L.Trainer) -> Decision:
        return decide(trainer, due=self.schedule.is_due(trainer.global_step))

    def _stop_before_validation(self, trainer: L.Trainer) -> None:
        if self._decide(trainer) == Decision.STOP:
            self._validation_due = True
            self._save(trainer)
            stop(trainer, self.path)

    def _save(self, trainer: L.Trainer) -> None:
        """Write the file unless it holds this step already."""
        if self.schedule.is_written(trainer.global_step):
            return
        self._writing = True
        try:
            previous = str(self.previous) if self._keep_previous else None
            trainer.save_checkpoint(self.path, storage_options=previous)
        finally:
            self._writing = False
        if trainer.is_global_zero:
            for best in _best_checkpoints(trainer):
                best.remove_superseded()
        self._keep_previous = True
        self.schedule.written(trainer.global_step)


def _best_checkpoints(trainer: L.Trainer) -> list[BestCheckpoint]:
    return [
        callback
        for callback in trainer.checkpoint_callbacks
        if isinstance(callback, BestCheckpoint)
    ]
