"""A picture of queries and what they found: right and wrong images framed apart."""

import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image, ImageOps

from tireid.callbacks.retrieval_evaluation import embeddings_of
from tireid.figures import OWN, RIGHT, WRONG, own_style
from tireid.retrieval import top_k


class GalleryRow(NamedTuple):
    """One query of the picture.

    Attributes:
        caption: The query.
        own_image: The image the caption was written for.
        found: The best images, best first.
        scores: Their similarities.
        right: Whether each shows the query's identity.
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
    """Draw one line of images a query.

    Args:
        rows: Queries with equally many images.
        path: The picture to write.
        title: Stands above.
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
        own = figure.add_subplot(grid[number, 1])
        _show(own, row.own_image, OWN, "described", dashed=True)
        for column, image in enumerate(row.found):
            mark = "\N{CHECK MARK}" if row.right[column] else "\N{MULTIPLICATION X}"
            _show(
                figure.add_subplot(grid[number, column + 2]),
                image,
                RIGHT if row.right[column] else WRONG,
                f"{mark} {row.scores[column]:.2f}",
            )
    figure.savefig(path, dpi=90)


def _show(axes: Any, image: Path, colour: str, label: str, *, dashed: bool = False) -> None:
    with Image.open(image) as file:
        picture = ImageOps.exif_transpose(file).convert("RGB")
    axes.imshow(np.asarray(picture), aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(label, fontsize=8, color=colour, pad=2)
    for spine in axes.spines.values():
        spine.set(edgecolor=colour, linewidth=3, linestyle="--" if dashed else "-")


class ResultGallery(Callback):
    """Write a picture of test queries drawn at random, with their best images.

    Args:
        output_dir: The run folder.
        filename: Name of the picture in it.
        num_queries: Rows of the picture; drawn evenly over the split, not picked by their score.
        top_k: Images a query.
        selection: What chose the checkpoint; `test` is said in red.
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
        """Draw the test split's gallery; a picture that fails does not fail the run."""
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
        k = min(self.top_k, len(records))
        scores, found = top_k(split.texts[chosen], split.images, k)
        rows = [
            GalleryRow(
                caption=captions[query],
                own_image=records[int(split.image_index[query])].image_path,
                found=[records[i].image_path for i in found[row].tolist()],
                scores=scores[row].tolist(),
                right=[
                    bool(split.image_pids[i] == split.text_pids[query]) for i in found[row].tolist()
                ],
            )
            for row, query in enumerate(chosen.tolist())
        ]
        title = (
            f"{count} test captions drawn at random: the image each describes, and the {k} best "
            f"of {len(records)}  (\N{CHECK MARK} same person, \N{MULTIPLICATION X} another)"
        )
        on_test = self.selection == "test"
        if on_test:
            title = f"Checkpoint CHOSEN ON THE TEST SPLIT. {title}"
        draw_gallery(rows, self.path, title, title_colour="red" if on_test else "black")
