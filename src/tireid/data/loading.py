"""How batches are loaded: the processes that read them, and what each loader is given."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader

from tireid.data.datasets import ImageDataset, TextDataset
from tireid.data.resumable_loader import LOADING_SECONDS, prepare_worker
from tireid.data.samplers import EvaluationSampler
from tireid.data.shared_memory import workers_that_fit
from tireid.files import available_cores

_MOST_WORKERS = 8


@dataclass(frozen=True, slots=True)
class Loading:
    """Settings of all loaders of a data set.

    Attributes:
        eval_batch_size: Samples a batch of an evaluation.
        num_workers: Loading processes of each training process; None: none if images are cached,
            else as many as there are cores, at most 8.
        prefetch: Batches that each of them has ready.
        persistent_workers: Whether those of a training stay for its next epoch.
        cache_images: Whether images are in memory.
        seed: Of the generators.

    Raises:
        ValueError: If a number is out of its range.
    """

    eval_batch_size: int
    num_workers: int | None
    prefetch: int
    persistent_workers: bool
    cache_images: bool
    seed: int

    def __post_init__(self) -> None:
        size, workers = self.eval_batch_size, self.num_workers
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"eval_batch_size: expected a positive integer, got {size!r}")
        if workers is not None and (not isinstance(workers, int) or workers < 0):
            raise ValueError(f"num_workers: expected an integer >= 0 or null, got {workers}")
        if not isinstance(self.prefetch, int) or self.prefetch < 1:
            raise ValueError(f"prefetch: expected a positive integer, got {self.prefetch!r}")

    def workers(self, batch_bytes: int, trainer: Any, batch_setting: str) -> int:
        """Return the number of loading processes that fit the machine.

        Args:
            batch_bytes: Size of a batch.
            trainer: Lightning's, which has its processes on this machine; None: there is one.
            batch_setting: Setting of the batch's size, for messages.
        """
        processes = trainer.num_devices if trainer is not None else 1
        wanted = self.num_workers
        if wanted is None:
            cores = available_cores() // processes
            wanted = 0 if self.cache_images else max(1, min(_MOST_WORKERS, cores))
        return workers_that_fit(
            wanted, batch_bytes, processes, batch_setting, prefetch=self.prefetch
        )

    def options(self, workers: int) -> dict[str, Any]:
        """Return what a `DataLoader` is given beside its data.

        A generator of its own: a loader would draw its workers' seed from the global one, and so
        change the dropout of the model with the number of loaders and epochs.
        """
        return {
            "pin_memory": torch.cuda.is_available(),
            "generator": torch.Generator().manual_seed(self.seed),
            "num_workers": workers,
            "prefetch_factor": self.prefetch if workers else None,
            "worker_init_fn": prepare_worker,
            "timeout": LOADING_SECONDS if workers else 0,
        }

    def evaluation(
        self, dataset: TextDataset | ImageDataset, workers: int, *, num_replicas: int, rank: int
    ) -> DataLoader[Any]:
        """Return the loader of a rank's share of the texts or the images of a split."""
        return DataLoader(
            dataset,
            batch_size=self.eval_batch_size,
            sampler=EvaluationSampler(len(dataset), num_replicas=num_replicas, rank=rank),
            collate_fn=dataset.collate,
            **self.options(workers),
        )
