"""Pages of queries: which words and which places of the pictures a method weighs, part by part."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

from tireid.explanations.blocks import (
    INK,
    PALE,
    PAPER,
    SMALL_SIZE,
    TITLE_SIZE,
    Caption,
    beside,
    caption_block,
    framed,
    map_block,
    read_upright,
    rule,
    save_page,
    scale_block,
    stack,
    text_block,
)
from tireid.figures import OWN, RIGHT, WRONG

TEXT_WIDTH, PICTURE_HEIGHT, GAP = 740, 216, 12


class ShownPicture(NamedTuple):
    """A picture of a page.

    Attributes:
        path: Its file.
        label: Stands above it.
        right: Whether it shows the person of the query; None: it is the one described.
    """

    path: Path
    label: str
    right: bool | None


class MapRow(NamedTuple):
    """One line of a page: a caption and pictures, weighed.

    Attributes:
        title: Says what weighs.
        note: Explains it; may be empty.
        words: Strength of each token of the caption, in [-1, 1]; None: there is none.
        maps: Strengths over each picture, in [-1, 1]; None: there are none.
    """

    title: str
    note: str
    words: Sequence[float] | None
    maps: Sequence[Float[np.ndarray, "rows columns"]] | None


class QueryPage(NamedTuple):
    """All that the page of a query shows.

    Attributes:
        title: Stands above.
        subtitle: Below the title.
        caption: The query.
        pictures: The picture described, then the best, best first.
        rows: What weighs.
        scales: Ends of the tints' scales: what they are of, then the low end and the high one.
        signed: Whether strengths below 0 have a meaning.
        summary: The row that the overview shows.
        warning: Stands in red above all; may be empty.
    """

    title: str
    subtitle: str
    caption: Caption
    pictures: Sequence[ShownPicture]
    rows: Sequence[MapRow]
    scales: Sequence[tuple[str, str, str]]
    signed: bool
    summary: MapRow
    warning: str = ""


def draw_query(page: QueryPage, path: Path) -> Path:
    """Write the page of one query."""
    size = _picture_size(page.pictures)
    pictures = _pictures(page.pictures, size)
    plain = [0.0] * len(page.caption.places)
    caption = stack([_heading("The caption", ""), caption_block(page.caption, plain, TEXT_WIDTH)])
    lines = [beside([caption, pictures], 2 * GAP)]
    width = lines[0].width
    for row in page.rows:
        lines += [rule(width), _line(row, page, size)]
    head = [text_block(page.title, width, size=TITLE_SIZE, bold=True)]
    if page.warning:
        head.insert(0, text_block(page.warning, width, bold=True, colour="#C00000"))
    head.append(text_block(page.subtitle, width, size=SMALL_SIZE, colour=PALE))
    for of, low, high in page.scales:
        label = text_block(of, 330, size=SMALL_SIZE, colour=PALE)
        head.append(beside([label, scale_block(low, high, signed=page.signed)], GAP))
    return save_page(stack([*head, _space(14), *lines]), path)


def draw_overview(pages: Sequence[QueryPage], path: Path, title: str, subtitle: str) -> Path:
    """Write one line a query: the caption and the pictures under all parts together."""
    lines: list[Image.Image] = []
    height = round(PICTURE_HEIGHT * 0.75)
    size = _picture_size([picture for page in pages for picture in page.pictures], height)
    for page in pages:
        words = page.summary.words or [0.0] * len(page.caption.places)
        caption = stack(
            [_heading(page.title, ""), caption_block(page.caption, words, TEXT_WIDTH)], 4
        )
        blocks = [caption, _pictures(page.pictures, size, page.summary.maps)]
        lines += [beside(blocks, 2 * GAP)]
    width = max(line.width for line in lines)
    ruled = [block for line in lines for block in (rule(width), line)]
    head = [
        text_block(title, width, size=TITLE_SIZE, bold=True),
        text_block(subtitle, width, size=SMALL_SIZE, colour=PALE),
    ]
    warning = pages[0].warning
    if warning:
        head.insert(0, text_block(warning, width, bold=True, colour="#C00000"))
    return save_page(stack([*head, *ruled]), path)


def _line(row: MapRow, page: QueryPage, size: tuple[int, int]) -> Image.Image:
    left = [_heading(row.title, row.note)]
    if row.words is not None:
        left.append(caption_block(page.caption, row.words, TEXT_WIDTH))
    blocks = [stack(left, 2)]
    if row.maps is not None:
        pictures = [read_upright(picture.path) for picture in page.pictures]
        tinted = [
            framed(map_block(picture, strengths, size), "#999999", thickness=1)
            for picture, strengths in zip(pictures, row.maps, strict=True)
        ]
        # As wide as the framed pictures above, so that they stand under them.
        wide = [_centred(block, size[0] + 8) for block in tinted]
        blocks.append(beside(wide, GAP))
    return beside(blocks, 2 * GAP)


def _heading(title: str, note: str) -> Image.Image:
    blocks = [text_block(title, TEXT_WIDTH, bold=True)]
    if note:
        blocks.append(text_block(note, TEXT_WIDTH, size=SMALL_SIZE, colour=PALE))
    return stack(blocks)


def _pictures(
    pictures: Sequence[ShownPicture],
    size: tuple[int, int],
    maps: Sequence[Float[np.ndarray, "rows columns"]] | None = None,
) -> Image.Image:
    blocks: list[Image.Image] = []
    for number, picture in enumerate(pictures):
        own = picture.right is None
        colour = OWN if own else RIGHT if picture.right else WRONG
        shown = read_upright(picture.path)
        if maps is None:
            inner = shown.resize(size, Image.Resampling.BICUBIC)
        else:
            inner = map_block(shown, maps[number], size)
        block = framed(inner, colour, dashed=own)
        mark = "" if own else "\N{CHECK MARK} " if picture.right else "\N{MULTIPLICATION X} "
        label = text_block(
            mark + picture.label, block.width, size=15, colour=INK if own else colour
        )
        blocks.append(stack([label, block]))
    return beside(blocks, GAP)


def _picture_size(
    pictures: Sequence[ShownPicture], height: int = PICTURE_HEIGHT
) -> tuple[int, int]:
    """Return one size for all, of the shape that most have, within bounds."""
    shapes = [read_upright(picture.path).size for picture in pictures]
    ratio = float(np.median([width / height for width, height in shapes]))
    return round(height * min(0.6, max(0.33, ratio))), height


def _centred(block: Image.Image, width: int) -> Image.Image:
    sheet = Image.new("RGB", (width, block.height), PAPER)
    sheet.paste(block, ((width - block.width) // 2, 0))
    return sheet


def _space(height: int) -> Image.Image:
    return Image.new("RGB", (1, height), PAPER)
