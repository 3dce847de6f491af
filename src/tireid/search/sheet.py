"""A contact sheet: the images that each query has found, in a grid."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from tireid.data.images import decode
from tireid.files import replacing
from tireid.search.index import Result

_TILE = (96, 240)  # width and height of an image
_GAP = 8
_LINE = 18
_COLUMNS = 10
_TEXT, _DIM, _EMPTY, _PAGE = "#111111", "#666666", "#dddddd", "#ffffff"


def draw_sheet(queries: Sequence[tuple[str, Sequence[Result]]], path: Path) -> None:
    """Draw the results of some queries into a PNG file.

    Args:
        queries: What was asked, with its results, best first.
        path: The file to write.

    Raises:
        OSError: If it cannot be written.
    """
    font = ImageFont.load_default(13)
    columns = max(1, min(_COLUMNS, max(len(results) for _, results in queries)))
    width = max(480, _GAP + columns * (_TILE[0] + _GAP))
    blocks = [(_wrapped(query, width), results) for query, results in queries]
    heights = [_height(lines, results, columns) for lines, results in blocks]
    page = Image.new("RGB", (width, sum(heights) + _GAP), _PAGE)
    draw, top = ImageDraw.Draw(page), _GAP
    for (lines, results), height in zip(blocks, heights, strict=True):
        for number, line in enumerate(lines):
            draw.text((_GAP, top + _LINE * number), line, _TEXT, font)
        for place, result in enumerate(results):
            x = _GAP + place % columns * (_TILE[0] + _GAP)
            y = top + _LINE * len(lines) + _GAP + place // columns * (_TILE[1] + _LINE + _GAP)
            page.paste(_tile(result.path), (x, y))
            draw.text((x, y + _TILE[1]), f"{result.rank}", _TEXT, font)
            draw.text((x + 28, y + _TILE[1]), f"{result.score:.3f}", _DIM, font)
        top += height
    with replacing(path) as file:
        page.save(file, "PNG")


def _wrapped(query: str, width: int) -> list[str]:
    return textwrap.wrap(query, max(20, width // 7)) or ["(image)"]


def _height(lines: Sequence[str], results: Sequence[Result], columns: int) -> int:
    rows = -(-len(results) // columns)
    return _LINE * len(lines) + 2 * _GAP + rows * (_TILE[1] + _LINE + _GAP)


def _tile(path: Path) -> Image.Image:
    """Return an image whole on a tile; an empty one if its file is gone or damaged."""
    try:
        return ImageOps.pad(decode(path), _TILE, color=_EMPTY)
    except ValueError:
        return Image.new("RGB", _TILE, _EMPTY)
