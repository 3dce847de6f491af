"""The images of a split at one size: read from their files, from memory, or from a packed file."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from tireid.data.images import check_decoder, for_each, read_image, resampling
from tireid.data.packed_images import PackedImages, packed_images


class ImageSource:
    """The images of a split at one size.

    Args:
        paths: Image files.
        image_size: Height and width in pixels.
        interpolation: Name of Pillow's filter for the resizing.
        shortest_edge: As in `read_image`.
        decoder: As in `read_image`.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        image_size: tuple[int, int],
        interpolation: str,
        shortest_edge: int | None = None,
        decoder: str = "pillow",
    ) -> None:
        self._paths = tuple(paths)
        self.image_size = image_size
        self._interpolation, self._filter = interpolation, resampling(interpolation)
        self._shortest_edge = shortest_edge
        self._decoder = check_decoder(decoder)
        self._cache: UInt8[Tensor, "images 3 height width"] | PackedImages | None = None

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> UInt8[Tensor, "3 height width"]:
        """Return one image; not to be changed in place."""
        if self._cache is not None:
            return self._cache[index]
        return self._read(index)

    def fill(self, *, progress: bool = True) -> None:
        """Read all images into memory: images x 3 x height x width bytes.

        Raises:
            ValueError: If images cannot be read; says how many and names the first few.
        """
        if self._cache is not None:
            return
        cache = torch.empty((len(self), 3, *self.image_size), dtype=torch.uint8)

        def read_into_cache(index: int) -> None:
            cache[index] = self._read(index)

        for_each(read_into_cache, range(len(self)), "Reading images", progress)
        self._cache = cache

    def pack(self, cache_dir: Path, *, progress: bool = True) -> None:
        """Take all images from one memory-mapped file from now on, written first if need be.

        Args:
            cache_dir: As in `packed_images`.
            progress: As in `packed_images`.

        Raises:
            ValueError: If images cannot be read; says how many and names the first few.
            OSError: If the file cannot be written.
        """
        recipe = {
            "image_size": list(self.image_size),
            "interpolation": self._interpolation,
            "shortest_edge": self._shortest_edge,
            "decode": self._decoder,
        }
        self._cache = packed_images(self._paths, self._read, recipe, cache_dir, progress=progress)

    def _read(self, index: int) -> UInt8[Tensor, "3 height width"]:
        path = self._paths[index]
        return read_image(path, self.image_size, self._filter, self._shortest_edge, self._decoder)
