"""How images enter a model: resized, kept, augmented, normalised here or on the device."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from tireid.data.image_source import ImageSource
from tireid.data.images import check_decoder, check_image_size, read_image, resampling
from tireid.data.transforms import TrainTransform, as_bytes
from tireid.structures import ImageBatch, PairBatch, SupportBatch

_CACHES = (None, "packed")
_PLACES = ("auto", "worker", "device")


class ImageInput:
    """The images of a data set on their way into a model.

    Args:
        augmented: Makes a training image of resized bytes, normalised.
        image_size: Height and width in pixels.
        interpolation: Name of Pillow's filter for the resizing.
        shortest_edge: As in `read_image`.
        decoder: As in `read_image`.
        in_memory: Whether resized images are kept in memory.
        cache: `packed`: they are kept in one file instead, see `packed_images`; None: they are not.
        normalise_on: `device` lets images travel to a trainer's device as bytes, and normalises
            them there; where rectangles are erased, the `worker` that loads them does so. `auto`:
            on the device if it is a GPU.

    Raises:
        ValueError: If a value is out of its range.
    """

    def __init__(
        self,
        augmented: TrainTransform,
        image_size: Sequence[int],
        interpolation: str,
        shortest_edge: int | None,
        decoder: str,
        in_memory: bool,
        cache: str | None,
        normalise_on: str,
    ) -> None:
        self.image_size = check_image_size(image_size)
        if cache not in _CACHES:
            raise ValueError(f"cache: expected packed or null, got {cache!r}")
        if normalise_on not in _PLACES:
            raise ValueError(
                f"normalise_on: expected one of {', '.join(_PLACES)}, got {normalise_on!r}"
            )
        self._interpolation, self._filter = interpolation, resampling(interpolation)
        self._shortest_edge, self._decoder = shortest_edge, check_decoder(decoder)
        self._in_memory, self._cache, self._place = in_memory, cache, normalise_on
        self._augmented, self._normalise = augmented, augmented.normalise
        self._on_device = deepcopy(augmented.normalise)

    def read(self, source: Path | Image.Image) -> Float[Tensor, "3 height width"]:
        """Return one image, resized and normalised."""
        return self._normalise(
            read_image(source, self.image_size, self._filter, self._shortest_edge, self._decoder)
        )

    def source(self, paths: Sequence[Path], cache_dir: Path, *, progress: bool) -> ImageSource:
        """Return the images of some files, cached as the settings say.

        Args:
            paths: Image files.
            cache_dir: Folder of packed images.
            progress: Whether to show on standard error how far the caching is.

        Raises:
            ValueError: If images that are cached cannot be read.
            OSError: If packed images cannot be written.
        """
        images = ImageSource(
            paths, self.image_size, self._interpolation, self._shortest_edge, self._decoder
        )
        if self._cache == "packed":
            images.pack(cache_dir, progress=progress)
        elif self._in_memory:
            images.fill(progress=progress)
        return images

    def in_bytes(self, trainer: Any, *, training: bool) -> bool:
        """Whether the images of a trainer's batches travel as bytes.

        Args:
            trainer: Lightning's; None: there is none.
            training: Whether they are batches of training.
        """
        if trainer is None or self._place == "worker":
            return False
        if training and self._augmented.erase_probability:
            return False
        strategy = getattr(trainer, "strategy", None)
        on_gpu = strategy is not None and strategy.root_device.type != "cpu"
        return self._place == "device" or on_gpu

    def num_bytes(self, *, in_bytes: bool) -> int:
        """Return the size of an image of a batch."""
        height, width = self.image_size
        return 3 * height * width * (torch.uint8 if in_bytes else torch.float32).itemsize

    def training_transform(self, *, augmented: bool, in_bytes: bool) -> TrainTransform:
        """Return what makes a training image of resized bytes."""
        normalise = as_bytes if in_bytes else self._normalise
        if augmented:
            return replace(self._augmented, normalise=normalise)
        return TrainTransform(normalise, 0, 0.0, 0.0)

    def transform(self, *, in_bytes: bool) -> Any:
        """Return what makes an image of an evaluation of resized bytes."""
        return as_bytes if in_bytes else self._normalise

    def normalised(self, batch: Any) -> Any:
        """Return a batch whose images are normalised if they are bytes; any other as it is."""
        if isinstance(batch, PairBatch) and batch.support is not None:
            batch = batch._replace(support=self.normalised(batch.support))
        has_images = isinstance(batch, PairBatch | SupportBatch | ImageBatch)
        if has_images and batch.images.dtype == torch.uint8:
            return batch._replace(images=self._on_device(batch.images))
        return batch
