"""Blocks of a page: text, tinted images, bars and scales, stacked and set side by side.

A block is as large as its content, so that nothing overlaps and nothing is cut.
"""

from collections.abc import Sequence
from functools import cache
from itertools import takewhile
from typing import IO, NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont, ImageOps

from tireid.figures import OWN, RIGHT, WRONG

INK, PALE, PAPER = "#1A1A1A", "#6A6A6A", "#FFFFFF"
# Apart for colour-blind readers too, from each other and from the frames; in grey by strength.
MORE, LESS = (170, 30, 115), (0, 115, 80)
TEXT_SIZE, SMALL_SIZE, TITLE_SIZE = 21, 17, 29
LINE = 1.45
_HALO = 0.8  # of the tint at full strength
GAP = 12  # between images
_FRAME = 4
_PADDING = 4  # left and right of letters in a box


@cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the font of the pages."""
    from matplotlib import font_manager  # its fonts come with it

    weight = "bold" if bold else "normal"
    properties = font_manager.FontProperties(family="DejaVu Sans", weight=weight)
    return ImageFont.truetype(font_manager.findfont(properties), size)


class Piece(NamedTuple):
    """A part of a text that is drawn as one.

    Attributes:
        text: The characters.
        starts: Whether it starts a word; the pieces of a word stay on one line.
        colour: Colour of the letters.
        fill: Colour of its background; None: there is none.
        outline: Colour of a box around it; None: there is none. In a box the letters are smaller.
    """

    text: str
    starts: bool = True
    colour: str = INK
    fill: tuple[int, int, int] | None = None
    outline: str | None = None

    def letters(self, size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
        """Return the font that it is drawn with in a text of a size."""
        return font(round(size * 0.75) if self.outline else size, bold=bold)

    def width(self, size: int, *, bold: bool = False) -> int:
        """Return its width in a text of a size, in pixels."""
        padding = 2 * _PADDING if self.outline else 0
        return round(self.letters(size, bold=bold).getlength(self.text)) + padding


def flow_block(
    pieces: Sequence[Piece], width: int, *, size: int = TEXT_SIZE, bold: bool = False
) -> Image.Image:
    """Return pieces of text in lines of a width in pixels."""
    widths = [piece.width(size, bold=bold) for piece in pieces]
    gap, line = round(font(size, bold=bold).getlength(" ")), round(size * LINE)
    corners: list[tuple[int, int]] = []
    x = y = 0
    for number, piece in enumerate(pieces):
        if piece.starts and x:
            x += gap
        following = takewhile(lambda n: not pieces[n].starts, range(number + 1, len(pieces)))
        word = widths[number] + (sum(widths[n] for n in following) if piece.starts else 0)
        if x and x + word > width:
            x, y = 0, y + line
        corners.append((x, y))
        x += widths[number]
    block = Image.new("RGB", (width, y + line), PAPER)
    draw = ImageDraw.Draw(block)
    placed = list(zip(pieces, corners, widths, strict=True))
    for piece, (x, y), wide in placed:
        if piece.fill is not None:
            box = (max(0, x - 1), y + 1, min(width - 1, x + wide), y + line - 3)
            draw.rectangle(box, fill=piece.fill, outline=piece.outline)
    for piece, (x, y), _ in placed:
        start = x + (_PADDING if piece.outline else 0)
        letters = piece.letters(size, bold=bold)
        draw.text((start, y + size), piece.text, piece.colour, letters, anchor="ls")
    return block


def text_block(
    text: str, width: int, *, size: int = TEXT_SIZE, bold: bool = False, colour: str = INK
) -> Image.Image:
    """Return text wrapped at a width in pixels; a word that is wider is broken."""
    pieces: list[Piece] = []
    for word in text.split():
        fits = Piece(word).width(size, bold=bold) <= width
        parts = [word] if fits else word
        pieces += [Piece(part, not number, colour) for number, part in enumerate(parts)]
    return flow_block(pieces, width, size=size, bold=bold)


def tint(strength: float) -> tuple[int, int, int]:
    """Return the colour of a strength in [-1, 1]; 0 is white."""
    amount = min(1.0, abs(strength))
    red, green, blue = (
        round(255 + amount * _HALO * (c - 255)) for c in (MORE if strength > 0 else LESS)
    )
    return red, green, blue


def map_block(
    image: Image.Image, strengths: Float[np.ndarray, "rows columns"], size: tuple[int, int]
) -> Image.Image:
    """Return an image in faded grey under a tinted map.

    Args:
        image: An image of any size.
        strengths: Strengths in [-1, 1], on a grid over the image.
        size: Width and height of the block.
    """
    grey = ImageOps.grayscale(image).resize(size, Image.Resampling.BICUBIC)
    base = 255 - 0.55 * (255 - np.asarray(grey, dtype=np.float32))[..., None]
    smooth = Image.fromarray(np.asarray(strengths, dtype=np.float32)).resize(
        size,
        Image.Resampling.BILINEAR,  # bicubic would overshoot
    )
    amounts = np.clip(np.asarray(smooth), -1, 1)[..., None]
    colour = np.where(amounts > 0, np.asarray(MORE, np.float32), np.asarray(LESS, np.float32))
    # The tint is multiplied in, so that the image stays visible under it.
    tinted = base * (1 - np.abs(amounts) * (1 - colour / 255))
    return Image.fromarray(tinted.round().clip(0, 255).astype(np.uint8))


def framed(image: Image.Image, colour: str, *, dashed: bool = False) -> Image.Image:
    """Return an image in a frame."""
    block = ImageOps.expand(image, _FRAME, colour)
    if dashed:
        draw = ImageDraw.Draw(block)
        for start in range(0, max(block.size), 16):
            for edge in (0, block.height - _FRAME):
                draw.rectangle((start, edge, start + 5, edge + _FRAME - 1), fill=PAPER)
            for edge in (0, block.width - _FRAME):
                draw.rectangle((edge, start, edge + _FRAME - 1, start + 5), fill=PAPER)
    return block


def tick(correct: bool) -> str:
    """Return a sign for a correct or a wrong image."""
    return "\N{CHECK MARK}" if correct else "\N{MULTIPLICATION X}"


def image_row(images: Sequence[tuple[Image.Image, str, bool | None]]) -> Image.Image:
    """Return images side by side, each in a frame below its label.

    Args:
        images: Images, their labels, and whether each shows the identity of the query; None: it is
            the image that the query describes.
    """
    blocks: list[Image.Image] = []
    for image, label, correct in images:
        described = correct is None
        colour = OWN if described else RIGHT if correct else WRONG
        block = framed(image, colour, dashed=described)
        text = label if described else f"{tick(correct)} {label}"
        above = text_block(text, block.width, size=15, colour=INK if described else colour)
        blocks.append(stack([above, block]))
    return beside(blocks, GAP)


def bar_block(
    share: float, width: int, height: int, colour: tuple[int, int, int] = MORE
) -> Image.Image:
    """Return a bar filled by a share in [0, 1]."""
    block = Image.new("RGB", (width, height), "#E4E4E4")
    filled = round(width * min(1.0, share))
    block.paste(Image.new("RGB", (filled, height), colour), (0, 0))
    return block


def scale_block(low: str, high: str, *, signed: bool = False, length: int = 220) -> Image.Image:
    """Return the scale of the tints, from `low` to `high`."""
    letters = font(SMALL_SIZE)
    height = round(SMALL_SIZE * LINE)
    left, right = (round(letters.getlength(text)) for text in (low, high))
    block = Image.new("RGB", (left + length + right + 24, height), PAPER)
    draw = ImageDraw.Draw(block)
    draw.text((0, SMALL_SIZE), low, font=letters, fill=PALE, anchor="ls")
    for step in range(length):
        share = step / (length - 1)
        strength = 2 * share - 1 if signed else share
        x = left + 12 + step
        draw.line((x, 3, x, height - 4), fill=tint(strength))
    draw.rectangle((left + 11, 2, left + 12 + length, height - 3), outline="#999999")
    draw.text((left + length + 24, SMALL_SIZE), high, font=letters, fill=PALE, anchor="ls")
    return block


def stack(blocks: Sequence[Image.Image], gap: int = 0) -> Image.Image:
    """Return blocks below one another."""
    width = max(block.width for block in blocks)
    sheet = Image.new("RGB", (width, sum(b.height + gap for b in blocks) - gap), PAPER)
    y = 0
    for block in blocks:
        sheet.paste(block, (0, y))
        y += block.height + gap
    return sheet


def beside(blocks: Sequence[Image.Image], gap: int = 0) -> Image.Image:
    """Return blocks side by side, aligned at their tops."""
    height = max(block.height for block in blocks)
    sheet = Image.new("RGB", (sum(b.width + gap for b in blocks) - gap, height), PAPER)
    x = 0
    for block in blocks:
        sheet.paste(block, (x, 0))
        x += block.width + gap
    return sheet


def save_page(
    file: IO[bytes],
    title: str,
    notes: Sequence[str | Image.Image],
    lines: Sequence[Image.Image],
    warnings: Sequence[str] = (),
    *,
    colours: int | None = None,
) -> None:
    """Write a page with a margin: a head, and below it lines with rules between them.

    Args:
        file: Gets the image, as PNG.
        title: Title of the page.
        notes: What stands in small letters or as a block below the title.
        lines: At least one block.
        warnings: Red texts above all; empty ones are left out.
        colours: Number of colours that it is reduced to, which makes a page of photographs a third
            of its size; None: it is not.
    """
    width = max(line.width for line in lines)
    blocks = [text_block(text, width, bold=True, colour="#C00000") for text in warnings if text]
    blocks.append(text_block(title, width, size=TITLE_SIZE, bold=True))
    for note in notes:
        is_text = isinstance(note, str)
        blocks.append(text_block(note, width, size=SMALL_SIZE, colour=PALE) if is_text else note)
    rule = Image.new("RGB", (width, 23), PAPER)
    ImageDraw.Draw(rule).line((0, 11, width, 11), fill="#CCCCCC", width=1)
    blocks += [block for line in lines for block in (rule, line)]
    page = ImageOps.expand(stack(blocks), 40, PAPER)
    if colours is not None:
        page = page.quantize(colours)
    page.save(file, "PNG", dpi=(200, 200), compress_level=4)  # 6 takes twice the time to save 2 %
