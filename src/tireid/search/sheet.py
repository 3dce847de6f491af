"""A contact sheet: the images that each query has found, in a grid."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from tireid.figures.pages import GAP, PALE, SMALL_SIZE, beside, save_page, stack, text_block
from tireid.files import replacing
from tireid.search.index import Result

_TILE = (96, 240)  # width and height of an image
_COLUMNS = 10
_EMPTY = "#dddddd"


def draw_sheet(queries: Sequence[tuple[str, Sequence[Result]]], path: Path) -> None:
    """Draw the results of some queries into a PNG file.

    Args:
        queries: At least one: what was asked, with its results, best first.
        path: The file to write.

    Raises:
        OSError: If it cannot be written.
    """
    width = _COLUMNS * (_TILE[0] + GAP) - GAP
    lines: list[Image.Image] = []
    for query, results in queries:
        tiles = [_tile(result) for result in results]
        rows = [beside(tiles[n : n + _COLUMNS], GAP) for n in range(0, len(tiles), _COLUMNS)]
        lines.append(stack([text_block(query, width), *rows], GAP))
    with replacing(path) as file:
        save_page(file, "Images found, best first", [], lines)


def _tile(result: Result) -> Image.Image:
    """Return an image whole, below its rank and score; an empty one if its file cannot be read."""
    try:
        image = ImageOps.pad(result.image(), _TILE, color=_EMPTY)
    except ValueError:
        image = Image.new("RGB", _TILE, _EMPTY)
    label = f"{result.rank}  {result.score:.3f}"
    return stack([text_block(label, _TILE[0], size=SMALL_SIZE - 2, colour=PALE), image])
