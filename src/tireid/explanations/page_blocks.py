"""Blocks of a page: text, tinted images, bars and scales, stacked and set side by side.

A block is as large as its content, so that nothing overlaps and nothing is cut.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont, ImageOps

from tireid.data.images import decode

INK, PALE, PAPER = "#1A1A1A", "#6A6A6A", "#FFFFFF"
# Apart for colour-blind readers too, from each other and from the frames; in grey by strength.
MORE, LESS = (170, 30, 115), (0, 115, 80)
TEXT_SIZE, SMALL_SIZE, TITLE_SIZE = 21, 17, 29
LINE = 1.45
_HALO = 0.8  # of the tint at full strength


@cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the font of the pages."""
    from matplotlib import font_manager  # its fonts come with it

    weight = "bold" if bold else "normal"
    properties = font_manager.FontProperties(family="DejaVu Sans", weight=weight)
    return ImageFont.truetype(font_manager.findfont(properties), size)


def text_block(
    text: str, width: int, *, size: int = TEXT_SIZE, bold: bool = False, colour: str = INK
) -> Image.Image:
    """Return text wrapped at a width in pixels; a word that is wider is broken."""
    letters = font(size, bold=bold)
    lines = [""]
    for word in text.split():
        if letters.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] = f"{lines[-1]} {word}".strip()
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if letters.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    height = round(size * LINE)
    block = Image.new("RGB", (width, height * len(lines)), PAPER)
    draw = ImageDraw.Draw(block)
    for number, line in enumerate(lines):
        draw.text((0, number * height + size), line, font=letters, fill=colour, anchor="ls")
    return block


def tint(strength: float) -> tuple[int, int, int]:
    """Return the colour of a strength in [-1, 1]; 0 is white."""
    amount = min(1.0, abs(strength))
    red, green, blue = (
        round(255 + amount * _HALO * (c - 255)) for c in (MORE if strength > 0 else LESS)
    )
    return red, green, blue


@lru_cache(maxsize=256)
def read_upright(path: Path) -> Image.Image:
    """Return an image file in RGB, upright by its EXIF orientation."""
    return decode(path)


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


def framed(
    image: Image.Image, colour: str, *, dashed: bool = False, thickness: int = 4
) -> Image.Image:
    """Return an image in a frame."""
    block = ImageOps.expand(image, thickness, colour)
    if dashed:
        draw = ImageDraw.Draw(block)
        for start in range(0, max(block.size), 16):
            for edge in (0, block.height - thickness):
                draw.rectangle((start, edge, start + 5, edge + thickness - 1), fill=PAPER)
            for edge in (0, block.width - thickness):
                draw.rectangle((edge, start, edge + thickness - 1, start + 5), fill=PAPER)
    return block


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


def stack(blocks: Sequence[Image.Image], gap: int = 0, *, centred: bool = False) -> Image.Image:
    """Return blocks below one another."""
    width = max(block.width for block in blocks)
    height = sum(block.height for block in blocks) + gap * (len(blocks) - 1)
    sheet = Image.new("RGB", (width, height), PAPER)
    y = 0
    for block in blocks:
        sheet.paste(block, ((width - block.width) // 2 if centred else 0, y))
        y += block.height + gap
    return sheet


def beside(blocks: Sequence[Image.Image], gap: int = 0, *, centred: bool = False) -> Image.Image:
    """Return blocks side by side, aligned at their tops or centred."""
    height = max(block.height for block in blocks)
    width = sum(block.width for block in blocks) + gap * (len(blocks) - 1)
    sheet = Image.new("RGB", (width, height), PAPER)
    x = 0
    for block in blocks:
        sheet.paste(block, (x, (height - block.height) // 2 if centred else 0))
        x += block.width + gap
    return sheet


def rule(width: int) -> Image.Image:
    """Return a thin horizontal line with a margin."""
    block = Image.new("RGB", (width, 23), PAPER)
    ImageDraw.Draw(block).line((0, 11, width, 11), fill="#CCCCCC", width=1)
    return block


def warning_block(text: str, width: int) -> Image.Image:
    """Return a warning, bold and red."""
    return text_block(text, width, bold=True, colour="#C00000")


def save_page(content: Image.Image, path: Path, margin: int = 40) -> Path:
    """Write a page with a margin."""
    ImageOps.expand(content, margin, PAPER).save(path, dpi=(200, 200))
    return path
