"""Blocks that pages are made of: text, shaded captions and pictures, stacked and set side by side.

A block is an image as large as what it shows, so that nothing overlaps and nothing is cut.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont, ImageOps

from tireid.data.images import decode
from tireid.data.tokenizers import TokenPlace

INK, PALE, PAPER = "#1A1A1A", "#6A6A6A", "#FFFFFF"
# Apart for colour-blind readers too, from each other and from the frames; in grey by strength.
MORE, LESS = (170, 30, 115), (0, 115, 80)
TEXT_SIZE, SMALL_SIZE, TITLE_SIZE = 21, 17, 29
LINE = 1.45
_HALO = 0.8  # of the tint at full strength


class Caption(NamedTuple):
    """A caption and where its tokens stand in it."""

    text: str
    places: list[TokenPlace]


@cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    from matplotlib import font_manager  # its fonts come with it

    weight = "bold" if bold else "normal"
    wanted = font_manager.FontProperties(family="DejaVu Sans", weight=weight)
    return ImageFont.truetype(font_manager.findfont(wanted), size)


def text_block(
    text: str, width: int, *, size: int = TEXT_SIZE, bold: bool = False, colour: str = INK
) -> Image.Image:
    """Return text wrapped at a width in pixels; a word that is wider is broken."""
    font = _font(size, bold)
    lines = [""]
    for word in text.split():
        if font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] = f"{lines[-1]} {word}".strip()
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    height = round(size * LINE)
    block = Image.new("RGB", (width, height * len(lines)), PAPER)
    draw = ImageDraw.Draw(block)
    for number, line in enumerate(lines):
        draw.text((0, number * height + size), line, font=font, fill=colour, anchor="ls")
    return block


def caption_block(
    caption: Caption, strengths: Sequence[float], width: int, *, size: int = TEXT_SIZE
) -> Image.Image:
    """Return a caption whose tokens are shaded.

    Args:
        caption: What stands after the last token, cut off by the tokenizer, is pale.
        strengths: Of each token, in [-1, 1]; 0 is not shaded.
        width: Pixels.
        size: Of the letters, in pixels.
    """
    font, small = _font(size, False), _font(round(size * 0.75), False)
    line, gap = round(size * LINE), round(font.getlength(" "))
    pieces: list[tuple[str, float, bool, bool]] = []  # text, strength, starts a word, is a token
    end = 0
    for number, (place, strength) in enumerate(zip(caption.places, strengths, strict=True)):
        if place.end <= place.start:
            pieces.append(("start" if number == 0 else "end", strength, True, False))
            continue
        starts = place.start > end or caption.text[place.start].isspace()
        text = caption.text[max(end, place.start) : place.end].strip()
        pieces.append((text, strength, starts or not end, True))
        end = max(end, place.end)
    cut = caption.text[end:].split()

    placed: list[tuple[int, int, int, str, float, bool]] = []  # x, y, width, ...
    x = y = 0
    for number, (text, strength, starts, is_token) in enumerate(pieces):
        used = font if is_token else small
        wide = round(used.getlength(text)) + (0 if is_token else 8)
        if starts and x:
            word = wide
            for after, _, begins, _ in pieces[number + 1 :]:
                if begins:
                    break
                word += round(font.getlength(after))
            x += gap
            if x + word > width:
                x, y = 0, y + line
        if x and x + wide > width:
            x, y = 0, y + line
        placed.append((x, y, wide, text, strength, is_token))
        x += wide
    pale: list[tuple[int, int, str]] = []
    for word in cut:
        wide = round(font.getlength(word))
        x += gap if x else 0
        if x and x + wide > width:
            x, y = 0, y + line
        pale.append((x, y, word))
        x += wide

    block = Image.new("RGB", (width, y + line), PAPER)
    draw = ImageDraw.Draw(block)
    for x, y, wide, _, strength, is_token in placed:
        box = (max(0, x - 1), y + 1, min(width - 1, x + wide), y + line - 3)
        draw.rectangle(box, fill=_tinted(strength), outline=None if is_token else "#BBBBBB")
    for x, y, _, text, _, is_token in placed:
        where = (x + (0 if is_token else 4), y + size)
        used, colour = (font, INK) if is_token else (small, PALE)
        draw.text(where, text, font=used, fill=colour, anchor="ls")
    for x, y, word in pale:
        draw.text((x, y + size), word, font=font, fill="#B0B0B0", anchor="ls")
    return block


def _tinted(strength: float) -> tuple[int, int, int]:
    amount = min(1.0, abs(strength))
    red, green, blue = (
        round(255 + amount * _HALO * (c - 255)) for c in (MORE if strength > 0 else LESS)
    )
    return red, green, blue


@lru_cache(maxsize=256)
def read_upright(path: Path) -> Image.Image:
    """Return a picture in RGB, turned as it is meant."""
    return decode(path)


def map_block(
    picture: Image.Image, strengths: Float[np.ndarray, "rows columns"], size: tuple[int, int]
) -> Image.Image:
    """Return a picture in faded grey, its places tinted.

    Args:
        picture: Of any size.
        strengths: Of the places of a grid over the picture, in [-1, 1].
        size: Width and height of the block.
    """
    grey = ImageOps.grayscale(picture).resize(size, Image.Resampling.BICUBIC)
    base = 255 - 0.55 * (255 - np.asarray(grey, dtype=np.float32))[..., None]
    smooth = Image.fromarray(np.asarray(strengths, dtype=np.float32)).resize(
        size,
        Image.Resampling.BILINEAR,  # bicubic would overshoot
    )
    amounts = np.clip(np.asarray(smooth), -1, 1)[..., None]
    tint = np.where(amounts > 0, np.asarray(MORE, np.float32), np.asarray(LESS, np.float32))
    # The tint is multiplied in, so that the drawing stays to be seen under it.
    tinted = base * (1 - np.abs(amounts) * (1 - tint / 255))
    return Image.fromarray(tinted.round().clip(0, 255).astype(np.uint8))


def framed(
    picture: Image.Image, colour: str, *, dashed: bool = False, thickness: int = 4
) -> Image.Image:
    """Return a picture in a frame."""
    block = ImageOps.expand(picture, thickness, colour)
    if dashed:
        draw = ImageDraw.Draw(block)
        for start in range(0, max(block.size), 16):
            across = (start, 0, start + 5)
            for edge in (0, block.height - thickness):
                draw.rectangle((across[0], edge, across[2], edge + thickness - 1), fill=PAPER)
            for edge in (0, block.width - thickness):
                draw.rectangle((edge, across[0], edge + thickness - 1, across[2]), fill=PAPER)
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
    """Return the scale of the tints, from none, or from `low`, to `high`."""
    font = _font(SMALL_SIZE, False)
    height = round(SMALL_SIZE * LINE)
    left, right = (round(font.getlength(text)) for text in (low, high))
    block = Image.new("RGB", (left + length + right + 24, height), PAPER)
    draw = ImageDraw.Draw(block)
    draw.text((0, SMALL_SIZE), low, font=font, fill=PALE, anchor="ls")
    for step in range(length):
        share = step / (length - 1)
        strength = 2 * share - 1 if signed else share
        x = left + 12 + step
        draw.line((x, 3, x, height - 4), fill=_tinted(strength))
    draw.rectangle((left + 11, 2, left + 12 + length, height - 3), outline="#999999")
    draw.text((left + length + 24, SMALL_SIZE), high, font=font, fill=PALE, anchor="ls")
    return block


def stack(blocks: Sequence[Image.Image], gap: int = 0, *, centred: bool = False) -> Image.Image:
    """Return blocks below each other."""
    width = max(block.width for block in blocks)
    height = sum(block.height for block in blocks) + gap * (len(blocks) - 1)
    sheet = Image.new("RGB", (width, height), PAPER)
    y = 0
    for block in blocks:
        sheet.paste(block, ((width - block.width) // 2 if centred else 0, y))
        y += block.height + gap
    return sheet


def beside(blocks: Sequence[Image.Image], gap: int = 0, *, centred: bool = False) -> Image.Image:
    """Return blocks next to each other, aligned at their tops or on one line through the middle."""
    height = max(block.height for block in blocks)
    width = sum(block.width for block in blocks) + gap * (len(blocks) - 1)
    sheet = Image.new("RGB", (width, height), PAPER)
    x = 0
    for block in blocks:
        sheet.paste(block, (x, (height - block.height) // 2 if centred else 0))
        x += block.width + gap
    return sheet


def rule(width: int) -> Image.Image:
    """Return a thin line with room around it."""
    block = Image.new("RGB", (width, 23), PAPER)
    ImageDraw.Draw(block).line((0, 11, width, 11), fill="#CCCCCC", width=1)
    return block


def save_page(content: Image.Image, path: Path, margin: int = 40) -> Path:
    """Write a page with a margin."""
    ImageOps.expand(content, margin, PAPER).save(path, dpi=(200, 200))
    return path
