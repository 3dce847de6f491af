"""Draw test queries with their best images, right and wrong ones framed apart."""

import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
from jaxtyping import Int
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn
from numpy import ndarray
from PIL import Image, ImageOps

from tireid.callbacks.query_images import tick
from tireid.callbacks.retrieval_evaluation import embeddings_of
from tireid.figures import OWN, RIGHT, WRONG, own_style
from tireid.files import replacing
from tireid.retrieval import top_k
from tireid.retrieval.collection import SplitEmbeddings


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


@own_style()
def draw_gallery(
    rows: list[GalleryRow], path: Path, title: str, *, title_colour: str = "black"
) -> None:
    """Draw one line of images per query.

    Args:
        rows: Queries with equally many images.
        path: The file to write.
        title: Title of the figure.
        title_colour: A matplotlib colour.
    """
    from matplotlib.figure import Figure

    columns = len(rows[0].found)
    figure = Figure(figsize=(4.6 + 1.0 * (columns + 1), 2.35 * len(rows) + 0.6))
    grid = figure.add_gridspec(
        len(rows),
        columns + 2,
        width_ratios=[3.6, 1.1, *([1.0] * columns)],
        left=0.01,
        right=0.99,
        bottom=0.01,
        top=1 - 0.75 / (2.35 * len(rows) + 0.6),
        wspace=0.08,
        hspace=0.22,
    )
    figure.suptitle(title, fontsize=12, x=0.01, ha="left", color=title_colour)
    for number, row in enumerate(rows):
        text = figure.add_subplot(grid[number, 0])
        text.axis("off")
        caption = "\n".join(textwrap.wrap(row.caption, 46)[:9])
        text.text(0, 0.5, caption, fontsize=9, va="center", parse_math=False)
        axes = figure.add_subplot(grid[number, 1])
        _draw_image(axes, row.own_image, OWN, "described", dashed=True)
        for column, (image, hit) in enumerate(zip(row.found, row.right, strict=True)):
            axes = figure.add_subplot(grid[number, column + 2])
            label = f"{tick(hit)} {row.scores[column]:.2f}"
            _draw_image(axes, image, RIGHT if hit else WRONG, label)
    with replacing(path) as file:
        figure.savefig(file, dpi=90, format="png")


def _draw_image(axes: Any, path: Path, colour: str, label: str, *, dashed: bool = False) -> None:
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file).convert("RGB")
    axes.imshow(np.asarray(image), aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(label, fontsize=8, color=colour, pad=2)
    for spine in axes.spines.values():
        spine.set(edgecolor=colour, linewidth=3, linestyle="--" if dashed else "-")


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
        captions = [caption for record in records for caption in record.captions]
        if len(captions) != len(split.texts) or len(records) != len(split.images):
            return  # only a part of the split was embedded, by a limit on the batches
        count = min(self.num_queries, len(captions))
        chosen = np.random.default_rng(0).choice(len(captions), count, replace=False)
        rows = _rows(split, records, chosen, self.top_k)
        title = (
            f"{count} test captions drawn at random: the image each describes, and the "
            f"{len(rows[0].found)} best of {len(records)}  ({tick(True)} same person, "
            f"{tick(False)} another)"
        )
        on_test = self.selection == "test"
        if on_test:
            title = f"Checkpoint CHOSEN ON THE TEST SPLIT. {title}"
        draw_gallery(rows, self.path, title, title_colour="red" if on_test else "black")


def _rows(
    split: SplitEmbeddings, records: list[Any], queries: Int[ndarray, " chosen"], k: int
) -> list[GalleryRow]:
    """Return some queries of a split, by position, with their k best images."""
    captions = [caption for record in records for caption in record.captions]
    scores, best = top_k(split.texts[queries], split.images, k)
    return [
        GalleryRow(
            caption=captions[query],
            own_image=records[int(split.image_index[query])].image_path,
            found=[records[position].image_path for position in positions],
            scores=row_scores,
            right=(split.image_pids[positions] == split.text_pids[query]).tolist(),
        )
        for query, positions, row_scores in zip(
            queries.tolist(), best.tolist(), scores.tolist(), strict=True
        )
    ]
