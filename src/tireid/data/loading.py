"""How batches are loaded: the processes that read them, and what each loader is given."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, DistributedSampler

from tireid.data.datasets import ImageDataset, PairDataset, TextDataset
from tireid.data.resumable_loader import LOADING_SECONDS, ResumableDataLoader, prepare_worker
from tireid.data.samplers import GlobalBatchSampler
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

    def training(
        self,
        dataset: PairDataset,
        sampler: GlobalBatchSampler,
        batch_size: int,
        sample_bytes: int,
        trainer: Any,
        *,
        once: bool = False,
    ) -> DataLoader[Any]:
        """Return the loader of training pairs.

        Args:
            dataset: The pairs.
            sampler: Draws this process's share of each batch.
            batch_size: Pairs of that share.
            sample_bytes: Size of a pair with its support sets.
            trainer: As in `workers`.
            once: Whether all of it is read once, beside the loader that a training resumes.
        """
        workers = self.workers(batch_size * sample_bytes, trainer, "batch_size")
        kind = DataLoader[Any] if once else ResumableDataLoader
        return kind(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            persistent_workers=workers > 0 and self.persistent_workers and not once,
            collate_fn=dataset.collate,
            drop_last=not once,
            **self._options(workers),
        )

    def evaluation(
        self,
        dataset: TextDataset | ImageDataset,
        item_bytes: int,
        trainer: Any,
        *,
        num_replicas: int,
        rank: int,
    ) -> DataLoader[Any]:
        """Return the loader of a rank's share of the texts or the images of a split.

        All ranks get the same number, as collective operations in an evaluation step need: the
        first items come again where the ranks do not divide the number. Their index tells them
        apart.

        Args:
            dataset: The texts or images.
            item_bytes: Size of an item; 0: so small that this process loads them itself.
            trainer: As in `workers`.
            num_replicas: Number of processes.
            rank: This process.
        """
        batch_bytes = min(len(dataset), self.eval_batch_size) * item_bytes
        workers = 0
        if item_bytes:
            workers = self.workers(batch_bytes, trainer, "dataset.eval_batch_size")
        return DataLoader(
            dataset,
            batch_size=self.eval_batch_size,
            sampler=DistributedSampler(dataset, num_replicas, rank, shuffle=False),
            collate_fn=dataset.collate,
            **self._options(workers),
        )

    def _options(self, workers: int) -> dict[str, Any]:
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
