"""Build the data loaders of training and evaluation."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader

from tireid.data.datasets import (
    EvalImageTransform,
    ImageDataset,
    PairDataset,
    PairItem,
    TextDataset,
    WordsOf,
    collate_images,
    collate_texts,
)
from tireid.data.images import ImageSource
from tireid.data.records import Record
from tireid.data.resumable_loader import ResumableDataLoader, survive_signals
from tireid.data.samplers import EvaluationSampler, GlobalBatchSampler
from tireid.structures import PairBatch


class PreparedSplit(NamedTuple):
    """A split that is ready to be loaded.

    Attributes:
        records: One record an image.
        token_ids: Ids of all captions, in the order of the records.
        images: The images, in the order of the records.
    """

    records: list[Record]
    token_ids: list[list[int]]
    images: ImageSource


class LoaderOptions(NamedTuple):
    """Options that all loaders of a process share.

    Attributes:
        num_workers: Loading processes; texts are loaded without any.
        seed: Seed of the workers' generator.
    """

    num_workers: int
    seed: int

    def for_loader(self) -> dict[str, Any]:
        """Return keyword arguments for a `DataLoader`."""
        # A generator of its own: a loader would draw its workers' seed from the global one, and so
        # change the dropout of the model with the number of loaders and epochs.
        return {
            "pin_memory": torch.cuda.is_available(),
            "generator": torch.Generator().manual_seed(self.seed),
            "worker_init_fn": survive_signals,
        }


def train_loader(
    dataset: PairDataset,
    sampler: GlobalBatchSampler,
    collate: Callable[[Sequence[PairItem]], PairBatch],
    *,
    batch_size: int,
    options: LoaderOptions,
) -> DataLoader[Any]:
    """Return the loader of a process's share of the training batches.

    Args:
        dataset: All training pairs.
        sampler: Yields this process's pairs.
        collate: Makes a batch of pairs.
        batch_size: Pairs of a step on this process.
        options: Workers and seed.
    """
    return ResumableDataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=options.num_workers,
        persistent_workers=options.num_workers > 0,
        collate_fn=collate,
        drop_last=True,
        **options.for_loader(),
    )


def evaluation_loaders(
    split: PreparedSplit,
    transform: EvalImageTransform,
    *,
    pad_id: int,
    words_of: WordsOf | None,
    batch_size: int,
    num_replicas: int,
    rank: int,
    options: LoaderOptions,
) -> list[DataLoader[Any]]:
    """Return the loaders of a process's share of a split's texts and images.

    Args:
        split: What is evaluated.
        transform: Normalises an image.
        pad_id: Fills the token ids.
        words_of: Positions of captions to their token features; None: texts carry none.
        batch_size: Texts or images of a step on this process.
        num_replicas: Number of processes that share the split.
        rank: This process's number among them.
        options: Workers and seed.
    """
    texts = TextDataset(split.records, split.token_ids)
    images = ImageDataset(split.records, split.images, transform)
    text_loader = DataLoader(
        texts,
        batch_size=batch_size,
        sampler=EvaluationSampler(len(texts), num_replicas=num_replicas, rank=rank),
        collate_fn=partial(collate_texts, pad_id=pad_id, words_of=words_of),
        **options.for_loader(),
    )
    image_loader = DataLoader(
        images,
        batch_size=batch_size,
        sampler=EvaluationSampler(len(images), num_replicas=num_replicas, rank=rank),
        num_workers=options.num_workers,
        collate_fn=collate_images,
        **options.for_loader(),
    )
    return [text_loader, image_loader]


def workers_for(processes: int) -> int:
    """Return how many workers each of some processes gets: all cores together, at most 8 each."""
    # A batch system may allow fewer cores than there are; only Linux knows.
    allowed = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
    return max(1, min(8, len(allowed) // processes))
