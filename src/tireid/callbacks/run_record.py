"""`metrics.json`: what a run measured, and all that is needed to say where it came from."""

import hashlib
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn

from tireid.files import write_json
from tireid.runs.environment import device_name, peak_memory_mib, source_state, versions


class RunRecord(Callback):
    """Write `metrics.json` after every validation and after the test; log the peak memory.

    Args:
        output_dir: The run folder; its `config.yaml` is hashed into the record.
        seed: The run's seed.
        selection: Which checkpoint is tested: the best on `val` or on `test`, or `last`.
        monitor: Metric that the choice goes by; larger is better.
        validation_split: Split that validation embeds.

    Attributes:
        extra: Entries of the record that others have to add.
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
        self._began = time.perf_counter()
        self._earlier_seconds = 0.0  # of the run's parts before it was resumed
        self._train_seconds = 0.0
        self._images = 0
        self._before = (0, 0.0)  # images and seconds when the epoch began
        self._evaluation_seconds = 0.0
        self._evaluation_began = 0.0
        self._batch_began = 0.0
        self._tested = ""
        self._source = source_state(Path(__file__).parent)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start a step's clock at the first step of an epoch; later ones run on."""
        if self._batch_began == 0.0:
            self._batch_began = time.perf_counter()

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
        self._train_seconds += now - self._batch_began
        self._batch_began = now
        self._images += len(batch.pid) * trainer.world_size

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the epoch's images a second, and the peak memory so far: the largest of processes."""
        images, seconds = self._images - self._before[0], self._train_seconds - self._before[1]
        self._before = (self._images, self._train_seconds)
        speed = images / max(seconds, 1e-9)
        pl_module.log("train/images_per_second", speed, sync_dist=True, reduce_fx="mean")
        peak = peak_memory_mib(pl_module.device)
        pl_module.log("train/peak_memory_mib", peak, sync_dist=True, reduce_fx="max")

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the training clock, start the evaluation clock."""
        self._batch_began = 0.0
        self._evaluation_began = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the split's metrics."""
        self._evaluation_seconds += time.perf_counter() - self._evaluation_began
        found = _metrics_of(trainer, f"{self.split}/")
        self.validations.append({"epoch": trainer.current_epoch, **found})
        self._write(trainer, pl_module)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the evaluation clock."""
        self._tested = Path(trainer.ckpt_path or "").name
        self._evaluation_began = time.perf_counter()

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the test metrics."""
        self._evaluation_seconds += time.perf_counter() - self._evaluation_began
        self.test = _metrics_of(trainer, "test/")
        self._write(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep what was counted so far."""
        checkpoint["run_record"] = {
            "validations": self.validations,
            "seconds": self._seconds,
            "train_seconds": self._train_seconds,
            "evaluation_seconds": self._evaluation_seconds,
            "images": self._images,
        }

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Count on where a resumed run stopped; the test of a checkpoint changes nothing."""
        if trainer.state.fn != TrainerFn.FITTING or "run_record" not in checkpoint:
            return
        kept = checkpoint["run_record"]
        self.validations = list(kept["validations"])
        self._earlier_seconds = kept["seconds"]
        self._train_seconds = kept["train_seconds"]
        self._evaluation_seconds = kept["evaluation_seconds"]
        self._images = kept["images"]
        self._before = (self._images, self._train_seconds)

    @property
    def _seconds(self) -> float:
        return self._earlier_seconds + time.perf_counter() - self._began

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the checkpoint that is tested, validation and test, in percent."""
        if not self.validations:
            return dict(self.test)
        chosen = self.validations[-1]
        if self.selection != "last":
            chosen = max(self.validations, key=lambda found: found.get(self.monitor, -1.0))
        return {name: value for name, value in chosen.items() if name != "epoch"} | self.test

    def _write(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        config = self.output_dir / "config.yaml"
        parameters = list(pl_module.parameters())
        content = {
            "metrics": self.metrics,
            "seed": self.seed,
            "selection": self.selection,
            "finished": bool(self.test),
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "tested_checkpoint": self._tested,
            "data_sha256": trainer.datamodule.fingerprints(),  # pyright: ignore[reportAttributeAccessIssue] -- set by Trainer.fit
            "validations": self.validations,
            "seconds": {
                "total": round(self._seconds, 2),
                "training": round(self._train_seconds, 2),
                "evaluation": round(self._evaluation_seconds, 2),
            },
            "images_per_second": round(self._images / max(self._train_seconds, 1e-9), 2),
            "peak_memory_mib": round(peak_memory_mib(pl_module.device), 1),
            "parameters": {
                "total": sum(p.numel() for p in parameters),
                "trained": sum(p.numel() for p in parameters if p.requires_grad),
            },
            "device": device_name(pl_module.device),
            "processes": trainer.world_size,
            "precision": str(trainer.precision),
            "config_sha256": (
                hashlib.sha256(config.read_bytes()).hexdigest() if config.exists() else None
            ),
            **self.extra,
            **self._source,
            "versions": versions(),
        }
        write_json(self.output_dir / "metrics.json", content)


def _metrics_of(trainer: L.Trainer, prefix: str) -> dict[str, float]:
    found = trainer.callback_metrics.items()
    return {name: float(value) for name, value in found if name.startswith(prefix)}
