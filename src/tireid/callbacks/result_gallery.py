"""Draw test queries with their best images, right and wrong ones framed apart."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image

from tireid.callbacks.retrieval_evaluation import embeddings_of
from tireid.data.images import decode
from tireid.data.records import Record, captions_of
from tireid.figures.pages import GAP, image_row, save_page, stack, text_block, tick
from tireid.files import replacing
from tireid.retrieval import top_k
from tireid.retrieval.collection import SplitEmbeddings

_IMAGE_SIZE, _COLOURS = (64, 154), 128  # eight rows of eleven images take under 500 kB


class GalleryRow(NamedTuple):
    """One query of the figure.

    Attributes:
        caption: The query.
        own_image: The image the caption was written for.
        found: The best images, best first.
        scores: Similarities of the best images.
        right: Whether each of the best images shows the query's identity.
    """

    caption: str
    own_image: Path
    found: list[Path]
    scores: list[float]
    right: list[bool]


def draw_gallery(rows: list[GalleryRow], path: Path, title: str, *, warning: str = "") -> None:
    """Draw one line of images per query, below its caption.

    Args:
        rows: At least one query.
        path: The file to write.
        title: Title of the figure.
        warning: Red text above all; may be empty.
    """
    with replacing(path) as file:
        save_page(file, title, [], list(map(row_block, rows)), [warning], colours=_COLOURS)


def row_block(row: GalleryRow) -> Image.Image:
    """Return a caption, and below it its own image and the best ones."""
    images = [(_small(row.own_image), "own", None)]
    images += [
        (_small(path), f"{score:.2f}", hit)
        for path, score, hit in zip(row.found, row.scores, row.right, strict=True)
    ]
    found = image_row(images)
    return stack([text_block(row.caption, found.width), found], GAP)


def gallery_rows(
    records: Sequence[Record], split: SplitEmbeddings, queries: int, k: int
) -> list[GalleryRow]:
    """Return captions drawn at random, with equal probability, and their best images.

    Args:
        records: Records of the split.
        split: Its embeddings.
        queries: Number of captions, or all of them if there are fewer.
        k: Images per caption.
    """
    captions = captions_of(records)
    count = min(queries, len(captions))
    chosen = np.random.default_rng(0).choice(len(captions), count, replace=False)
    scores, best = top_k(split.texts[chosen], split.images, k)
    return [
        GalleryRow(
            caption=captions[query],
            own_image=records[int(split.image_index[query])].image_path,
            found=[records[position].image_path for position in positions],
            scores=row_scores,
            right=(split.image_pids[positions] == split.text_pids[query]).tolist(),
        )
        for query, positions, row_scores in zip(
            chosen.tolist(), best.tolist(), scores.tolist(), strict=True
        )
    ]


def _small(path: Path) -> Image.Image:
    return decode(path).resize(_IMAGE_SIZE, Image.Resampling.BICUBIC)


class ResultGallery(Callback):
    """Write a figure of test queries drawn at random, with their best images.

    Args:
        output_dir: The run folder.
        filename: Name of the figure in it.
        num_queries: Queries to draw, with equal probability, not picked by their scores.
        top_k: Images per query.
        selection: What chose the checkpoint; `test` is written in red.
    """

    def __init__(
        self,
        output_dir: str,
        filename: str = "gallery_test.png",
        num_queries: int = 8,
        top_k: int = 10,
        selection: str = "val",
    ) -> None:
        self.path = Path(output_dir) / filename
        self.num_queries = num_queries
        self.top_k = top_k
        self.selection = selection

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the figure; one that fails does not fail the run."""
        if not trainer.is_global_zero:
            return
        try:
            self._draw(trainer)
        except Exception as error:
            rank_zero_warn(f"{self.path} was not drawn: {type(error).__name__}: {error}")

    def _draw(self, trainer: L.Trainer) -> None:
        split = embeddings_of(trainer)
        if split is None:
            return
        records = trainer.datamodule.records("test")  # pyright: ignore[reportAttributeAccessIssue] -- set by Trainer.test
        captions = captions_of(records)
        if len(captions) != len(split.texts) or len(records) != len(split.images):
            return  # only a part of the split was embedded, by a limit on the batches
        rows = gallery_rows(records, split, self.num_queries, self.top_k)
        title = (
            f"{len(rows)} test captions drawn at random: its own image, and the "
            f"{len(rows[0].found)} best of {len(records)}  ({tick(True)} same person, "
            f"{tick(False)} another)"
        )
        on_test = self.selection == "test"
        warning = "Checkpoint CHOSEN ON THE TEST SPLIT." if on_test else ""
        draw_gallery(rows, self.path, title, warning=warning)
