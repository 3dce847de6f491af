"""Write what was read into an engine: embedded, in one transaction a batch."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tireid.inference.retriever import Retriever
from tireid.search.engines.interface import Engine
from tireid.search.reading import ReadBatch


@dataclass
class IndexReport:
    """What an indexing has done.

    Attributes:
        added: Images that are new; in scenes, people.
        updated: Images whose content or fields have changed.
        removed: Images that are gone.
        unchanged: Images that are as they were.
        embedded: Images that the model has embedded; equal files count once.
        scenes: Images and frames of videos that were looked through for people; a video counts once
            where another process did it.
        failures: Files that are not in the index, with the reason.
        kept: Images that may be gone, by the empty folder where they lay; they are still indexed.
        total: Images in the index now.
    """

    added: int = 0
    updated: int = 0
    removed: int = 0
    unchanged: int = 0
    embedded: int = 0
    scenes: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    kept: dict[str, int] = field(default_factory=dict)
    total: int = 0


def write_batch(
    engine: Engine, batch: ReadBatch, retriever: Retriever, report: IndexReport
) -> None:
    """Embed a batch and write it; count what was done.

    Args:
        engine: Holds the rows.
        batch: What was read.
        retriever: Embeds it.
        report: What is counted.
    """
    known = engine.get([row.id for row in batch.rows])
    if batch.rows:
        engine.add(batch.rows, _vectors(engine, batch, retriever, report))
    new = [row for row in batch.rows if row.id not in known]
    report.added += len(new)
    report.updated += len(batch.rows) - len(new)
    engine.update(batch.unchanged)
    report.unchanged += len(batch.unchanged)
    if batch.failures:
        gone = [key for key, _, _ in batch.failures]
        report.removed += len(engine.get(gone))
        engine.remove(gone)
        report.failures += [(path, reason) for _, path, reason in batch.failures]


def _vectors(engine: Engine, batch: ReadBatch, retriever: Retriever, report: IndexReport) -> Tensor:
    """Return the vector of each row: that of a file with the same content, or a new one."""
    vectors = engine.vectors([row.digest for row in batch.rows])
    new: dict[str, int] = {}
    for place, row in enumerate(batch.rows):
        if row.digest not in vectors:
            new.setdefault(row.digest, place)
    if new:
        pixels = batch.pixels[list(new.values())]
        embedded = retriever.encode_pixels(pixels, batch_size=len(pixels))
        vectors |= dict(zip(new, embedded, strict=True))
        report.embedded += len(new)
    return torch.stack([vectors[row.digest] for row in batch.rows])
