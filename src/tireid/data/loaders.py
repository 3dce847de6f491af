"""Build the data loaders of training and evaluation."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader

from tireid.data.datasets import ImageDataset, PairDataset, TextDataset, collate_images
from tireid.data.resumable_loader import ResumableDataLoader, survive_signals
from tireid.data.samplers import EvaluationSampler, GlobalBatchSampler
from tireid.files import available_cores
from tireid.structures import PairBatch, TextBatch


def train_loader(
    dataset: PairDataset,
    sampler: GlobalBatchSampler,
    collate: Callable[[Any], PairBatch],
    *,
    batch_size: int,
    num_workers: int,
    seed: int,
) -> DataLoader[Any]:
    """Return the loader of a process's share of the training batches.

    Args:
        dataset: All training pairs.
        sampler: Yields this process's pairs.
        collate: Makes a batch of pairs.
        batch_size: Pairs of a step on this process.
        num_workers: Number of loading processes.
        seed: Seed of their generator.
    """
    return ResumableDataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=collate,
        drop_last=True,
        **_common(seed),
    )


def evaluation_loaders(
    texts: TextDataset,
    images: ImageDataset,
    collate_texts: Callable[[Any], TextBatch],
    *,
    batch_size: int,
    num_replicas: int,
    rank: int,
    num_workers: int,
    seed: int,
) -> list[DataLoader[Any]]:
    """Return the loaders of a process's share of a split's texts and images.

    Args:
        texts: All texts of the split.
        images: All images of the split.
        collate_texts: Makes a batch of texts.
        batch_size: Texts or images of a step on this process.
        num_replicas: Number of processes that share the split.
        rank: This process's number among them.
        num_workers: Number of processes that load images; texts need none.
        seed: Seed of their generator.
    """
    ranks = {"num_replicas": num_replicas, "rank": rank}
    text_loader = DataLoader(
        texts,
        batch_size=batch_size,
        sampler=EvaluationSampler(len(texts), **ranks),
        collate_fn=collate_texts,
        **_common(seed),
    )
    image_loader = DataLoader(
        images,
        batch_size=batch_size,
        sampler=EvaluationSampler(len(images), **ranks),
        num_workers=num_workers,
        collate_fn=collate_images,
        **_common(seed),
    )
    return [text_loader, image_loader]


def workers_for(processes: int) -> int:
    """Return how many workers each of some processes gets: all cores together, at most 8 each."""
    return max(1, min(8, available_cores() // processes))


def _common(seed: int) -> dict[str, Any]:
    # A generator of its own: a loader would draw its workers' seed from the global one, and so
    # change the dropout of the model with the number of loaders and epochs.
    return {
        "pin_memory": torch.cuda.is_available(),
        "generator": torch.Generator().manual_seed(seed),
        "worker_init_fn": survive_signals,
    }
