"""The one interface of all detectors."""

from typing import NamedTuple, Protocol, runtime_checkable

from PIL import Image


class Box(NamedTuple):
    """Where a person is, in pixels of the upright image."""

    left: int
    top: int
    width: int
    height: int

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom."""
        return self.left, self.top, self.left + self.width, self.top + self.height


class Person(NamedTuple):
    """A person that a detector has found.

    Attributes:
        box: Inside the image, not empty.
        score: How sure the detector is, on a scale of its own.
    """

    box: Box
    score: float


@runtime_checkable
class Detector(Protocol):
    """Finds people; the same image always gives the same people."""

    def __call__(self, image: Image.Image) -> list[Person]:
        """Return the people in an RGB image; may be none."""
        ...


def inside(left: float, top: float, right: float, bottom: float, size: tuple[int, int]) -> Box:
    """Return a box rounded to pixels and cut to an image of a width and height.

    Args:
        left: The first column; the others likewise.
        top: See there.
        right: See there.
        bottom: See there.
        size: Width and height of the image.
    """
    x, y = (min(max(round(value), 0), most) for value, most in zip((left, top), size, strict=True))
    ends = (min(max(round(v), 0), most) for v, most in zip((right, bottom), size, strict=True))
    end_x, end_y = ends
    return Box(x, y, max(0, end_x - x), max(0, end_y - y))
