"""Transforms of resized bytes to normalised tensors, random by a given generator only."""

import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)  # of the grey of a colour, ITU-R BT.601
Pixels = Float[Tensor, "3 height width"] | UInt8[Tensor, "3 height width"]


def keyed_generator(*key: int) -> torch.Generator:
    """Return a generator whose draws depend on the numbers of `key` alone.

    Args:
        key: Signed 64-bit integers, such as seed, epoch and index.
    """
    digest = hashlib.blake2b(struct.pack(f"<{len(key)}q", *key), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little", signed=True))


def check_share(name: str, value: object) -> None:
    """Raise a ValueError unless a setting is a number in [0, 1]."""
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a number in [0, 1], got {value!r}")


class Normalise:
    """Scales bytes to [0, 1], then subtracts `mean` and divides by `std`.

    Args:
        mean: One number a channel, in [0, 1].
        std: One positive number a channel.

    Raises:
        ValueError: If they are not three numbers each, or a deviation is not positive.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        for name, values in (("mean", mean), ("std", std)):
            if len(values) != 3 or not all(isinstance(value, int | float) for value in values):
                raise ValueError(f"{name}: expected three numbers (RGB), got {list(values)}")
        if min(std) <= 0:
            raise ValueError(f"std: expected three positive numbers, got {list(std)}")
        self._mean = 255 * torch.tensor(mean, dtype=torch.float32)[:, None, None]
        self._std = 255 * torch.tensor(std, dtype=torch.float32)[:, None, None]

    def __call__(
        self, image: UInt8[Tensor, "*batch 3 height width"]
    ) -> Float[Tensor, "*batch 3 height width"]:
        """Return the normalised image in float32, where it is."""
        if self._mean.device != image.device:
            self._mean, self._std = self._mean.to(image.device), self._std.to(image.device)
        return image.float().sub_(self._mean).div_(self._std)


def as_bytes(image: UInt8[Tensor, "3 height width"]) -> UInt8[Tensor, "3 height width"]:
    """Return the image, to be normalised later."""
    return image


@dataclass(frozen=True, slots=True)
class TrainTransform:
    """Change the colours, zero-pad and crop back, flip, normalise, erase; all at random.

    Attributes:
        normalise: Scaling to the encoder's statistics; or `as_bytes`, beside which nothing is
            erased.
        pad: Black pixels added on each side before the crop; 0 = no crop.
        flip_probability: Probability of mirroring left and right, in [0, 1].
        erase_probability: Probability of erasing one rectangle, in [0, 1].
        erase_value: What is written there, one number a channel, after normalisation: 0 is the mean
            colour. IRRA's code writes the mean itself, which is another colour.
        colour_jitter: Largest relative change of brightness, contrast and saturation, each by a
            factor of its own, in [0, 1]. Hues stay, which captions name.

    Source:
        LGUR's release: pad 10, flip 0.5, no erasing. Erasing is that of Zhong et al., AAAI 2020:
        2 to 40 % of the area, aspect ratio 0.3 to 3.3; here a rectangle that does not fit is cut
        down to the image instead of being drawn again. Colours: TBPS-CLIP (AAAI 2024, code
        Flame-Chasers/TBPS-CLIP), 0.1 where its random choice of augmentations takes them; here in
        every image, all three by one affine map.
    """

    normalise: Callable[[UInt8[Tensor, "3 height width"]], Pixels]
    pad: int = 10
    flip_probability: float = 0.5
    erase_probability: float = 0.0
    erase_value: tuple[float, ...] = (0.0, 0.0, 0.0)
    colour_jitter: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.pad, int) or self.pad < 0:
            raise ValueError(f"pad: expected a number of pixels >= 0, got {self.pad}")
        for name in ("flip_probability", "erase_probability", "colour_jitter"):
            check_share(name, getattr(self, name))
        if self.erase_probability and self.normalise is as_bytes:
            raise ValueError("erase_probability: expected 0 for images as bytes")
        values = self.erase_value
        if len(values) != 3 or not all(isinstance(value, int | float) for value in values):
            raise ValueError(f"erase_value: expected three numbers (RGB), got {list(values)}")

    def __call__(
        self, image: UInt8[Tensor, "3 height width"], generator: torch.Generator
    ) -> Pixels:
        """Return the augmented and normalised image.

        Args:
            image: Resized bytes; left as they are.
            generator: Source of all draws. Their number is fixed, so that one option does not
                change the draws of another.
        """
        top, left, flip, erase, *rectangle = torch.rand(8, generator=generator).tolist()
        if self.colour_jitter:
            factors = 1 + self.colour_jitter * (2 * torch.rand(3, generator=generator) - 1)
            image = changed_colours(image, *factors.tolist())
        if self.pad:
            height, width = image.shape[1:]
            top, left = (int(draw * (2 * self.pad + 1)) for draw in (top, left))
            padded = F.pad(image, (self.pad, self.pad, self.pad, self.pad))
            image = padded[:, top : top + height, left : left + width]
        if flip < self.flip_probability:
            image = image.flip(-1)
        pixels = self.normalise(image)
        if erase < self.erase_probability:
            _erase(pixels, rectangle, self.erase_value)
        return pixels


def changed_colours(
    image: UInt8[Tensor, "3 height width"], brightness: float, contrast: float, saturation: float
) -> UInt8[Tensor, "3 height width"]:
    """Return an image whose colours are changed, first by brightness, then contrast and saturation.

    Args:
        image: RGB.
        brightness: Factor of all values.
        contrast: Factor of their distances from the mean grey of the image.
        saturation: Factor of their distances from the grey of their pixel.
    """
    pixels = image.float()
    grey = (torch.tensor(_LUMA)[:, None, None] * pixels).sum(dim=0)
    shift = (1 - contrast) * brightness * grey.mean()
    coloured, grey = (brightness * contrast * part + shift for part in (pixels, grey))
    changed = grey + saturation * (coloured - grey)
    return changed.round_().clamp_(0, 255).to(torch.uint8)


def _erase(
    pixels: Float[Tensor, "3 height width"], draws: Sequence[float], values: Sequence[float]
) -> None:
    """Set a rectangle to one colour, in place."""
    height, width = pixels.shape[1:]
    area_draw, aspect_draw, top_draw, left_draw = draws
    area = (0.02 + 0.38 * area_draw) * height * width
    aspect = 0.3 * (3.3 / 0.3) ** aspect_draw  # log-uniform
    rows = min(height, max(1, round((area * aspect) ** 0.5)))
    columns = min(width, max(1, round((area / aspect) ** 0.5)))
    top = int(top_draw * (height - rows + 1))
    left = int(left_draw * (width - columns + 1))
    for channel, value in zip(pixels, values, strict=True):
        channel[top : top + rows, left : left + columns] = value
