"""Images of the page: files of the index as small JPEGs, and images that a visitor sends."""

import hashlib
import io
import tempfile
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from PIL import Image

from tireid.data.images import decode

MOST_BYTES = 20 * 2**20  # of an upload
THUMB, LARGE = (240, 480), (1600, 1600)  # most width and height
_KEPT = 64  # uploads held at a time; the oldest is dropped
_UPLOAD_SIDE = 1024


def as_jpeg(image: Image.Image, most: tuple[int, int]) -> bytes:
    """Return an image as a JPEG without its metadata, no larger than a width and height."""
    image.thumbnail(most)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=88)
    return content.getvalue()


class Uploads:
    """Images that visitors have sent, known by a hash of their content; for several threads."""

    def __init__(self) -> None:
        self._images: OrderedDict[str, Image.Image] = OrderedDict()
        self._lock = Lock()

    def add(self, content: bytes) -> str:
        """Read an image and return its name.

        Raises:
            ValueError: If it is none that can be read.
        """
        with tempfile.NamedTemporaryFile(suffix=".upload") as file:
            file.write(content)
            file.flush()
            try:
                image = decode(Path(file.name))
            except ValueError as error:  # its message names the temporary file
                raise ValueError("upload: expected an image that can be read") from error
        image.thumbnail((_UPLOAD_SIDE, _UPLOAD_SIDE))
        name = hashlib.sha256(content).hexdigest()[:16]
        with self._lock:
            self._images[name] = image
            self._images.move_to_end(name)
            if len(self._images) > _KEPT:
                self._images.popitem(last=False)
        return name

    def get(self, name: str) -> Image.Image:
        """Return an image by its name.

        Raises:
            ValueError: If it is no longer held.
        """
        with self._lock:
            image = self._images.get(name)
        if image is None:
            raise ValueError("upload: the image is no longer held here; send it again")
        return image
