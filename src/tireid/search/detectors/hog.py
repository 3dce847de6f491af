"""Upright people by OpenCV's histograms of oriented gradients, whose weights it brings along."""

from typing import Any

import numpy as np
from PIL import Image

from tireid.search.detectors.interface import Person, inside

_LEAST_WEIGHT = 1.0  # 91 % of the boxes were people on a street clip; 77 % at 0.3
_ENLARGED, _LONGEST = 1.5, 1600  # people of under 100 pixels are missed at the size they have
_MARGIN = 0.15  # of the box on each side: it was trained on people with this much around them
_OVERLAP = 0.5  # of the smaller of two boxes; the one of less weight is dropped


class HogDetector:
    """Finds people who stand or walk and are seen whole; see `Detector`.

    Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005.

    Raises:
        ValueError: If OpenCV is missing, or is a version without it.
    """

    def __init__(self) -> None:
        try:
            import cv2

            self._hog: Any = cv2.HOGDescriptor()
            self._hog.setSVMDetector(cv2.HOGDescriptor.getDefaultPeopleDetector())
        except (ImportError, AttributeError) as error:
            raise ValueError(
                "detect: hog needs OpenCV below 5; type: pip install -e '.[detect]'"
            ) from error

    def __call__(self, image: Image.Image) -> list[Person]:
        """See `Detector.__call__`."""
        factor = min(_ENLARGED, _LONGEST / max(image.size))
        size = [max(128, round(side * factor)) for side in image.size]
        pixels = np.asarray(image.resize((size[0], size[1]), Image.Resampling.BILINEAR))
        boxes, weights = self._hog.detectMultiScale(
            np.ascontiguousarray(pixels[..., ::-1]), hitThreshold=0, winStride=(8, 8), scale=1.05
        )
        scales = size[0] / image.width, size[1] / image.height
        found: list[Person] = []
        for (x, y, width, height), weight in zip(boxes, np.ravel(weights), strict=True):
            if weight < _LEAST_WEIGHT:
                continue
            left, right = x + _MARGIN * width, x + (1 - _MARGIN) * width
            top, bottom = y + _MARGIN * height, y + (1 - _MARGIN) * height
            box = inside(
                left / scales[0], top / scales[1], right / scales[0], bottom / scales[1], image.size
            )
            if box.width and box.height:
                found.append(Person(box, round(float(weight), 4)))
        return _apart(found)


def _apart(people: list[Person]) -> list[Person]:
    kept: list[Person] = []
    for one in sorted(people, key=lambda one: (-one.score, one.box)):
        if all(_shared(one, other) < _OVERLAP for other in kept):
            kept.append(one)
    return kept


def _shared(one: Person, other: Person) -> float:
    """Return the part of the smaller box that two boxes share."""
    a, b = one.box.corners, other.box.corners
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    smaller = min(box.width * box.height for box in (one.box, other.box))
    return max(0, width) * max(0, height) / smaller
