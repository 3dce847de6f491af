"""A caption as a block of a page, its tokens shaded."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

from tireid.data.tokenizers import TokenPlace
from tireid.explanations.page_blocks import INK, LINE, PALE, PAPER, TEXT_SIZE, font, tint

_CUT_COLOUR = "#B0B0B0"
_PADDING = 4  # left and right of a special token's name


class Caption(NamedTuple):
    """A caption and the places of its tokens."""

    text: str
    places: list[TokenPlace]


class _Piece(NamedTuple):
    """A part of a caption that is drawn as one.

    Attributes:
        text: The characters of a token, the name of a special token, or a word that was cut off.
        kind: `token`, `special` or `cut`.
        strength: Strength of the shade.
        starts: Whether it starts a word.
    """

    text: str
    kind: str
    strength: float
    starts: bool

    def width(self, size: int) -> int:
        special = self.kind == "special"
        padding = 2 * _PADDING if special else 0
        return round(font(_letters(self.kind, size)).getlength(self.text)) + padding


def caption_block(
    caption: Caption, strengths: Sequence[float], width: int, *, size: int = TEXT_SIZE
) -> Image.Image:
    """Return a caption whose tokens are shaded.

    Args:
        caption: Words after its last token, cut off by the tokenizer, are drawn pale.
        strengths: Strength of each token, in [-1, 1]; 0 is not shaded.
        width: Width of the block, in pixels.
        size: Size of the letters, in pixels.
    """
    pieces = _pieces(caption, strengths)
    corners = _wrap(pieces, width, size)
    line = round(size * LINE)
    bottom = corners[-1][1] if corners else 0
    block = Image.new("RGB", (width, bottom + line), PAPER)
    draw = ImageDraw.Draw(block)
    for piece, (x, y) in zip(pieces, corners, strict=True):
        if piece.kind != "cut":
            box = (max(0, x - 1), y + 1, min(width - 1, x + piece.width(size)), y + line - 3)
            outline = "#BBBBBB" if piece.kind == "special" else None
            draw.rectangle(box, fill=tint(piece.strength), outline=outline)
    colours = {"token": INK, "special": PALE, "cut": _CUT_COLOUR}
    for piece, (x, y) in zip(pieces, corners, strict=True):
        start = x + (_PADDING if piece.kind == "special" else 0)
        letters = font(_letters(piece.kind, size))
        draw.text((start, y + size), piece.text, colours[piece.kind], letters, anchor="ls")
    return block


def _letters(kind: str, size: int) -> int:
    return round(size * 0.75) if kind == "special" else size


def _pieces(caption: Caption, strengths: Sequence[float]) -> list[_Piece]:
    pieces: list[_Piece] = []
    end = 0
    for number, (place, strength) in enumerate(zip(caption.places, strengths, strict=True)):
        if place.end <= place.start:
            name = "start" if number == 0 else "end"
            pieces.append(_Piece(name, "special", strength, starts=True))
            continue
        starts = not end or place.start > end or caption.text[place.start].isspace()
        text = caption.text[max(end, place.start) : place.end].strip()
        pieces.append(_Piece(text, "token", strength, starts))
        end = max(end, place.end)
    cut = caption.text[end:].split()
    return pieces + [_Piece(word, "cut", 0.0, starts=True) for word in cut]


def _wrap(pieces: Sequence[_Piece], width: int, size: int) -> list[tuple[int, int]]:
    """Return the upper left corner of each piece; the pieces of a word stay on one line."""
    line, gap = round(size * LINE), round(font(size).getlength(" "))
    corners: list[tuple[int, int]] = []
    x = y = 0
    for number, piece in enumerate(pieces):
        piece_width = piece.width(size)
        if piece.starts and x:
            word = piece_width
            for following in pieces[number + 1 :]:
                if following.starts:
                    break
                word += following.width(size)
            x += gap
            if x + word > width:
                x, y = 0, y + line
        if x and x + piece_width > width:
            x, y = 0, y + line
        corners.append((x, y))
        x += piece_width
    return corners
