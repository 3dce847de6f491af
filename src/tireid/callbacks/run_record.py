"""Write `metrics.json`: what a run measured, what it cost, and where it came from."""

import hashlib
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn

from tireid.files import write_json
from tireid.runs.environment import device_name, peak_memory_mib, source_state, versions
from tireid.runs.record import RECORD_FILE
from tireid.runs.settings import CONFIG_FILE


@dataclass
class Effort:
    """Seconds and images that a run has taken, as checkpoints store them.

    Attributes:
        seconds: Those of the parts of the run before it was resumed.
        train_seconds: Those of training steps, the wait for their data included.
        evaluation_seconds: Those of validation and test.
        images: Training images of all processes.
    """

    seconds: float = 0.0
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    images: int = 0


class RunRecord(Callback):
    """Write `metrics.json` after every validation and after the test; log speed and peak memory.

    Args:
        output_dir: The run folder; its `config.yaml` is hashed into the record.
        seed: The run's seed.
        selection: Which checkpoint is tested: the best on `val` or on `test`, or `last`.
        monitor: Metric that the choice goes by; larger is better.
        validation_split: Split that validation embeds.

    Attributes:
        extra: Entries that others add to the record.
        validations: Metrics of each validation, with its epoch, from 1.
        test: Metrics of the test; empty before.
    """

    def __init__(
        self,
        output_dir: str,
        seed: int,
        selection: str,
        monitor: str,
        validation_split: str = "val",
    ) -> None:
        self.output_dir = Path(output_dir)
        self.seed = seed
        self.selection = selection
        self.monitor = monitor
        self.split = validation_split
        self.validations: list[dict[str, float]] = []
        self.test: dict[str, float] = {}
        self.extra: dict[str, Any] = {}
        self.effort = Effort()
        self._began = time.perf_counter()
        self._at_epoch_start = (0, 0.0)  # images and seconds of training
        self._step_began = 0.0
        self._evaluation_began = 0.0
        self._tested = ""
        self._source = source_state(Path(__file__).parent)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock at the first step of an epoch; it runs on between steps."""
        if self._step_began == 0.0:
            self._step_began = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the step's images and seconds, the wait for its data included."""
        now = time.perf_counter()
        self.effort.train_seconds += now - self._step_began
        self._step_began = now
        self.effort.images += len(batch.pid) * trainer.world_size

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the epoch's images per second, and the peak memory so far, the largest of ranks."""
        images, seconds = self._at_epoch_start
        speed = (self.effort.images - images) / max(self.effort.train_seconds - seconds, 1e-9)
        self._at_epoch_start = (self.effort.images, self.effort.train_seconds)
        pl_module.log("train/images_per_second", speed, sync_dist=True, reduce_fx="mean")
        peak = peak_memory_mib(pl_module.device)
        pl_module.log("train/peak_memory_mib", peak, sync_dist=True, reduce_fx="max")

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the training clock and start the evaluation clock."""
        self._step_began = 0.0
        self._evaluation_began = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the validation metrics."""
        self.effort.evaluation_seconds += time.perf_counter() - self._evaluation_began
        metrics = _logged(trainer, f"{self.split}/")
        self.validations.append({"epoch": trainer.current_epoch + 1, **metrics})
        self._write(trainer, pl_module)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the evaluation clock."""
        self._tested = Path(trainer.ckpt_path or "").name
        self._evaluation_began = time.perf_counter()

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the evaluation clock."""
        self.effort.evaluation_seconds += time.perf_counter() - self._evaluation_began

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the test metrics."""
        self.test = _logged(trainer, "test/")
        self._write(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the validations and the effort so far."""
        effort = replace(self.effort, seconds=self.seconds)
        checkpoint["run_record"] = {"validations": self.validations, **asdict(effort)}

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Continue the counts of a resumed run; the test of a checkpoint changes nothing."""
        if trainer.state.fn != TrainerFn.FITTING or "run_record" not in checkpoint:
            return
        stored = dict(checkpoint["run_record"])
        self.validations = list(stored.pop("validations"))
        self.effort = Effort(**stored)
        self._at_epoch_start = (self.effort.images, self.effort.train_seconds)

    @property
    def seconds(self) -> float:
        """Seconds since the run began, pauses between its parts left out."""
        return self.effort.seconds + time.perf_counter() - self._began

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the tested checkpoint, validation and test, in percent."""
        if not self.validations:
            return dict(self.test)
        chosen = self.validations[-1]
        if self.selection != "last":
            chosen = max(self.validations, key=lambda metrics: metrics.get(self.monitor, -1.0))
        return {name: value for name, value in chosen.items() if name != "epoch"} | self.test

    def content(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Return the record of the run as it stands."""
        return {
            "metrics": self.metrics,
            "seed": self.seed,
            "selection": self.selection,
            "finished": bool(self.test),
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "tested_checkpoint": self._tested,
            "data_sha256": trainer.datamodule.fingerprints(),  # pyright: ignore[reportAttributeAccessIssue] -- set by Trainer.fit
            "validations": self.validations,
            **_cost(replace(self.effort, seconds=self.seconds), pl_module),
            "device": device_name(pl_module.device),
            "processes": trainer.world_size,
            "precision": str(trainer.precision),
            "config_sha256": _sha256(self.output_dir / CONFIG_FILE),
            **self.extra,
            **self._source,
            "versions": versions(),
        }

    def _write(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            write_json(self.output_dir / RECORD_FILE, self.content(trainer, pl_module))


def _logged(trainer: L.Trainer, prefix: str) -> dict[str, float]:
    metrics = trainer.callback_metrics.items()
    return {name: float(value) for name, value in metrics if name.startswith(prefix)}


def _cost(effort: Effort, pl_module: L.LightningModule) -> dict[str, Any]:
    parameters = list(pl_module.parameters())
    return {
        "seconds": {
            "total": round(effort.seconds, 2),
            "training": round(effort.train_seconds, 2),
            "evaluation": round(effort.evaluation_seconds, 2),
        },
        "images_per_second": round(effort.images / max(effort.train_seconds, 1e-9), 2),
        "peak_memory_mib": round(peak_memory_mib(pl_module.device), 1),
        "parameters": {
            "total": sum(p.numel() for p in parameters),
            "trained": sum(p.numel() for p in parameters if p.requires_grad),
        },
    }


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
