"""A caption as a block of a page, its tokens shaded."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from tireid.data.tokenizers import TokenPlace
from tireid.figures.pages import PALE, Piece, flow_block, tint

_CUT_COLOUR = "#B0B0B0"


class Caption(NamedTuple):
    """A caption and the places of its tokens."""

    text: str
    places: list[TokenPlace]


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
    cut = [Piece(word, colour=_CUT_COLOUR) for word in caption.text[end:].split()]
    return flow_block([*pieces, *cut], width)
