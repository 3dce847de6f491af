"""Pages of queries: the weights of words and image patches, part by part."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

from tireid.explanations.captions import Caption, caption_block
from tireid.explanations.page_blocks import (
    INK,
    PALE,
    PAPER,
    SMALL_SIZE,
    TITLE_SIZE,
    beside,
    framed,
    map_block,
    read_upright,
    rule,
    save_page,
    scale_block,
    stack,
    text_block,
    warning_block,
)
from tireid.figures import OWN, RIGHT, WRONG

TEXT_WIDTH, IMAGE_HEIGHT, GAP = 740, 216, 12


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


class QueryPage(NamedTuple):
    """Content of the page of a query.

    Attributes:
        title: The page's title.
        caption: The query.
        images: The image described, then the best-ranked ones, best first.
        subtitle: Text below the title.
        rows: The weights.
        scales: For each scale of tints its name, its low end and its high end.
        signed: Whether strengths below 0 have a meaning.
        summary: The row of the overview.
        warning: Red text above all; may be empty.
    """

    title: str
    caption: Caption
    images: Sequence[ShownImage]
    subtitle: str
    rows: Sequence[MapRow]
    scales: Sequence[tuple[str, str, str]]
    signed: bool
    summary: MapRow
    warning: str = ""


def draw_query(page: QueryPage, path: Path) -> Path:
    """Write the page of one query."""
    size = _image_size(page.images)
    plain = [0.0] * len(page.caption.places)
    caption = stack([_heading("The caption", ""), caption_block(page.caption, plain, TEXT_WIDTH)])
    lines = [beside([caption, _images(page.images, size)], 2 * GAP)]
    width = lines[0].width
    for row in page.rows:
        lines += [rule(width), _line(row, page, size)]
    head = [text_block(page.title, width, size=TITLE_SIZE, bold=True)]
    if page.warning:
        head.insert(0, warning_block(page.warning, width))
    head.append(text_block(page.subtitle, width, size=SMALL_SIZE, colour=PALE))
    for name, low, high in page.scales:
        label = text_block(name, 330, size=SMALL_SIZE, colour=PALE)
        head.append(beside([label, scale_block(low, high, signed=page.signed)], GAP))
    return save_page(stack([*head, _space(14), *lines]), path)


def draw_overview(pages: Sequence[QueryPage], path: Path, title: str, subtitle: str) -> Path:
    """Write one row a query: its caption and images under the weights of all parts together."""
    lines: list[Image.Image] = []
    height = round(IMAGE_HEIGHT * 0.75)
    size = _image_size([image for page in pages for image in page.images], height)
    for page in pages:
        words = page.summary.words or [0.0] * len(page.caption.places)
        caption = stack(
            [_heading(page.title, ""), caption_block(page.caption, words, TEXT_WIDTH)], 4
        )
        images = _images(page.images, size, page.summary.maps)
        lines.append(beside([caption, images], 2 * GAP))
    width = max(line.width for line in lines)
    ruled = [block for line in lines for block in (rule(width), line)]
    head = [
        text_block(title, width, size=TITLE_SIZE, bold=True),
        text_block(subtitle, width, size=SMALL_SIZE, colour=PALE),
    ]
    if pages[0].warning:
        head.insert(0, warning_block(pages[0].warning, width))
    return save_page(stack([*head, *ruled]), path)


def _line(row: MapRow, page: QueryPage, size: tuple[int, int]) -> Image.Image:
    left = [_heading(row.title, row.note)]
    if row.words is not None:
        left.append(caption_block(page.caption, row.words, TEXT_WIDTH))
    blocks = [stack(left, 2)]
    if row.maps is not None:
        tinted = [
            framed(map_block(read_upright(image.path), strengths, size), "#999999", thickness=1)
            for image, strengths in zip(page.images, row.maps, strict=True)
        ]
        # As wide as the framed images above them.
        blocks.append(beside([_centred(block, size[0] + 8) for block in tinted], GAP))
    return beside(blocks, 2 * GAP)


def _heading(title: str, note: str) -> Image.Image:
    blocks = [text_block(title, TEXT_WIDTH, bold=True)]
    if note:
        blocks.append(text_block(note, TEXT_WIDTH, size=SMALL_SIZE, colour=PALE))
    return stack(blocks)


def _images(
    images: Sequence[ShownImage],
    size: tuple[int, int],
    maps: Sequence[Float[np.ndarray, "rows columns"]] | None = None,
) -> Image.Image:
    blocks: list[Image.Image] = []
    for number, image in enumerate(images):
        described = image.correct is None
        colour = OWN if described else RIGHT if image.correct else WRONG
        upright = read_upright(image.path)
        if maps is None:
            inner = upright.resize(size, Image.Resampling.BICUBIC)
        else:
            inner = map_block(upright, maps[number], size)
        block = framed(inner, colour, dashed=described)
        mark = "" if described else "\N{CHECK MARK} " if image.correct else "\N{MULTIPLICATION X} "
        label = text_block(
            mark + image.label, block.width, size=15, colour=INK if described else colour
        )
        blocks.append(stack([label, block]))
    return beside(blocks, GAP)


def _image_size(images: Sequence[ShownImage], height: int = IMAGE_HEIGHT) -> tuple[int, int]:
    """Return one size for all, of their median aspect ratio, within bounds."""
    shapes = [read_upright(image.path).size for image in images]
    ratio = float(np.median([width / height for width, height in shapes]))
    return round(height * min(0.6, max(0.33, ratio))), height


def _centred(block: Image.Image, width: int) -> Image.Image:
    sheet = Image.new("RGB", (width, block.height), PAPER)
    sheet.paste(block, ((width - block.width) // 2, 0))
    return sheet


def _space(height: int) -> Image.Image:
    return Image.new("RGB", (1, height), PAPER)
