"""The image of a row: a whole file, or a person cut out of a scene."""

from pathlib import Path

from PIL import Image, ImageDraw

from tireid.data.images import decode
from tireid.search.detectors.interface import Box, inside
from tireid.search.parts import Part
from tireid.search.video import frame_at

_PADDING = 0.05  # of the box, on each side
_COLOURS = ("black", "#ffd400")  # seen on any ground


def crop(scene: Image.Image, box: Box) -> Image.Image:
    """Return a person with a little of what is around."""
    left, top, right, bottom = box.corners
    x, y = _PADDING * box.width, _PADDING * box.height
    return scene.crop(inside(left - x, top - y, right + x, bottom + y, scene.size).corners)


def read_crop(path: Path, part: Part | None, least: tuple[int, int] | None = None) -> Image.Image:
    """Return the image that a row stands for.

    Args:
        path: Its file.
        part: The person in it; None: the whole image.
        least: Height and width that are enough for a whole image, as `decode` takes it.

    Raises:
        ValueError: If the file is gone, damaged, or another one now.
    """
    if part is None:
        return decode(path, least)
    scene = _read_scene(path, part)
    if not _fits(scene, part.box):
        raise ValueError(f"{path}: expected the scene that was indexed, got a smaller one")
    return crop(scene, part.box)


def read_scene(path: Path, part: Part | None) -> Image.Image:
    """Return the whole image or frame, with a frame around the person; see `read_crop`."""
    if part is None:
        return decode(path)
    scene = _read_scene(path, part)
    if _fits(scene, part.box):
        left, top, right, bottom = part.box.corners
        width = max(1, max(scene.size) // 400)
        draw = ImageDraw.Draw(scene)
        for colour, out in zip(_COLOURS, (2 * width, width), strict=True):
            draw.rectangle(
                (left - out, top - out, right + out, bottom + out), outline=colour, width=width
            )
    return scene


def _read_scene(path: Path, part: Part) -> Image.Image:
    return decode(path) if part.second is None else frame_at(path, part.second)


def _fits(scene: Image.Image, box: Box) -> bool:
    right, bottom = box.corners[2:]
    return right <= scene.width and bottom <= scene.height
