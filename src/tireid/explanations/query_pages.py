"""Pages of queries: the weights of words and image patches, part by part."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

from tireid.data.images import decode
from tireid.data.tokenizers import TokenPlace
from tireid.figures.pages import (
    GAP,
    PALE,
    SMALL_SIZE,
    Piece,
    beside,
    flow_block,
    framed,
    image_row,
    map_block,
    save_page,
    scale_block,
    stack,
    text_block,
    tint,
)
from tireid.files import replacing

TEXT_WIDTH, IMAGE_HEIGHT = 740, 216


class Caption(NamedTuple):
    """A caption and the places of its tokens."""

    text: str
    places: list[TokenPlace]


class ShownImage(NamedTuple):
    """An image of a page.

    Attributes:
        path: The image file.
        label: Text above the image.
        correct: Whether it shows the identity of the query; None: it is the image described.
    """

    path: Path
    label: str
    correct: bool | None


class MapRow(NamedTuple):
    """One row of a page: the weights of a caption's words and of the images' patches.

    Attributes:
        title: Name of the weights.
        note: Explanation; may be empty.
        words: Strength of each token of the caption, in [-1, 1]; None: there is none.
        maps: Strengths over each image, in [-1, 1]; None: there are none.
    """

    title: str
    note: str
    words: Sequence[float] | None
    maps: Sequence[Float[np.ndarray, "rows columns"]] | None


class Weights(NamedTuple):
    """What a method weighs in a caption and its images.

    Attributes:
        subtitle: Text below the title of the page.
        rows: The weights.
        scales: For each scale of tints its name, its low end and its high end.
        signed: Whether strengths below 0 have a meaning.
        summary: The row of the overview.
    """

    subtitle: str
    rows: Sequence[MapRow]
    scales: Sequence[tuple[str, str, str]]
    signed: bool
    summary: MapRow


class QueryPage(NamedTuple):
    """Content of the page of a query.

    Attributes:
        title: The page's title.
        caption: The query.
        images: The image described, then the best-ranked ones, best first.
        weights: What is weighed in them.
    """

    title: str
    caption: Caption
    images: Sequence[ShownImage]
    weights: Weights


def draw_query(page: QueryPage, path: Path, warning: str) -> Path:
    """Write the page of one query, below a warning if there is one."""
    size = _image_size(page.images)
    row = MapRow("The caption", "", [0.0] * len(page.caption.places), None)
    top = beside([_words(row, page.caption), _images(page.images, size)], 2 * GAP)
    lines = [top, *(_line(row, page, size) for row in page.weights.rows)]
    scales = [
        beside(
            [
                text_block(name, 330, size=SMALL_SIZE, colour=PALE),
                scale_block(low, high, signed=page.weights.signed),
            ],
            GAP,
        )
        for name, low, high in page.weights.scales
    ]
    with replacing(path) as file:
        save_page(file, page.title, [page.weights.subtitle, *scales], lines, [warning])
    return path


def draw_overview(
    pages: Sequence[QueryPage], path: Path, title: str, subtitle: str, warning: str
) -> Path:
    """Write one row a query: its caption and images under the weights of all parts together."""
    height = round(IMAGE_HEIGHT * 0.75)
    size = _image_size([image for page in pages for image in page.images], height)
    lines: list[Image.Image] = []
    for page in pages:
        summary = page.weights.summary
        words = summary.words or [0.0] * len(page.caption.places)
        text = _words(summary._replace(title=page.title, note="", words=words), page.caption)
        lines.append(beside([text, _images(page.images, size, summary.maps)], 2 * GAP))
    with replacing(path) as file:
        save_page(file, title, [subtitle], lines, [warning])
    return path


def caption_block(caption: Caption, strengths: Sequence[float], width: int) -> Image.Image:
    """Return a caption whose tokens are shaded.

    Args:
        caption: Words after its last token, cut off by the tokenizer, are drawn pale.
        strengths: Strength of each token, in [-1, 1]; 0 is not shaded.
        width: Width of the block, in pixels.
    """
    pieces: list[Piece] = []
    end = 0
    for number, (place, strength) in enumerate(zip(caption.places, strengths, strict=True)):
        fill = tint(strength)
        if place.end <= place.start:  # a special token
            name = "start" if number == 0 else "end"
            pieces.append(Piece(name, colour=PALE, fill=fill, outline="#BBBBBB"))
            continue
        starts = not end or place.start > end or caption.text[place.start].isspace()
        text = caption.text[max(end, place.start) : place.end].strip()
        pieces.append(Piece(text, starts, fill=fill))
        end = max(end, place.end)
    cut = [Piece(word, colour="#B0B0B0") for word in caption.text[end:].split()]
    return flow_block([*pieces, *cut], width)


def _words(row: MapRow, caption: Caption) -> Image.Image:
    """Return the title and the note of a row above its weights of the caption's words."""
    blocks = [text_block(row.title, TEXT_WIDTH, bold=True)]
    if row.note:
        blocks.append(text_block(row.note, TEXT_WIDTH, size=SMALL_SIZE, colour=PALE))
    if row.words is not None:
        blocks.append(caption_block(caption, row.words, TEXT_WIDTH))
    return stack(blocks, 2)


def _line(row: MapRow, page: QueryPage, size: tuple[int, int]) -> Image.Image:
    blocks = [_words(row, page.caption)]
    if row.maps is not None:
        tinted = [
            framed(map_block(read_upright(image.path), strengths, size), "#CCCCCC")
            for image, strengths in zip(page.images, row.maps, strict=True)
        ]
        blocks.append(beside(tinted, GAP))
    return beside(blocks, 2 * GAP)


def _images(
    images: Sequence[ShownImage],
    size: tuple[int, int],
    maps: Sequence[Float[np.ndarray, "rows columns"]] | None = None,
) -> Image.Image:
    upright = [read_upright(image.path) for image in images]
    if maps is None:
        inner = [image.resize(size, Image.Resampling.BICUBIC) for image in upright]
    else:
        inner = [map_block(image, map_, size) for image, map_ in zip(upright, maps, strict=True)]
    shown = zip(inner, images, strict=True)
    return image_row([(block, image.label, image.correct) for block, image in shown])


@lru_cache(maxsize=256)
def read_upright(path: Path) -> Image.Image:
    """Return an image file in RGB, upright by its EXIF orientation."""
    return decode(path)


def _image_size(images: Sequence[ShownImage], height: int = IMAGE_HEIGHT) -> tuple[int, int]:
    """Return one size for all, of their median aspect ratio, within bounds."""
    shapes = [read_upright(image.path).size for image in images]
    ratio = float(np.median([width / height for width, height in shapes]))
    return round(height * min(0.6, max(0.33, ratio))), height
