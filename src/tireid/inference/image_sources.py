"""Images as Python programs have them: files, their bytes, PIL images, arrays and tensors."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from tireid.data.images import decode

PixelArray = (
    UInt8[np.ndarray, "rows columns *channels"] | Float[np.ndarray, "rows columns *channels"]
)
PixelTensor = UInt8[Tensor, "*channels rows columns"] | Float[Tensor, "*channels rows columns"]
ImageSource = Image.Image | Path | str | bytes | PixelArray | PixelTensor
KINDS = (Image.Image, Path, str, bytes, np.ndarray, Tensor)


def as_readable(source: ImageSource) -> Path | Image.Image:
    """Return what `tireid.data.images.read_image` takes.

    Args:
        source: A path, a PIL image, the bytes of a file; an array of (height, width) or (height,
            width, 1 or 3); a tensor of (height, width) or (1 or 3, height, width). Numbers are
            whole from 0 to 255 (uint8), or fractions from 0 to 1.

    Raises:
        ValueError: If these are no bytes of an image, or numbers of another kind or shape.
    """
    if isinstance(source, (str, Path)):
        return Path(source)
    if isinstance(source, bytes):
        return _decoded(source)
    if isinstance(source, Tensor):
        tensor = source.detach().cpu()
        tensor = tensor.movedim(0, -1) if tensor.ndim == 3 else tensor
        return _image((tensor.float() if tensor.is_floating_point() else tensor).numpy(), source)
    return _image(source, source) if isinstance(source, np.ndarray) else source


def _decoded(content: bytes) -> Image.Image:
    """Return the image in the bytes of a file, read as files are."""
    with tempfile.TemporaryDirectory(prefix="tireid-") as folder:
        file = Path(folder, "image")
        file.write_bytes(content)
        try:
            return decode(file)
        except ValueError as error:
            reason = str(error).removeprefix(f"{file}: ").replace(str(file), "bytes")
            raise ValueError(f"{len(content):,} bytes: {reason}") from error


def _image(pixels: np.ndarray, source: Any) -> Image.Image:
    is_fraction = np.issubdtype(pixels.dtype, np.floating)
    in_range = not is_fraction or (pixels.size and pixels.min() >= 0 and pixels.max() <= 1)
    has_shape = pixels.size and pixels.ndim in (2, 3) and pixels.shape[2:] in ((), (1,), (3,))
    if not (has_shape and in_range and (is_fraction or pixels.dtype == np.uint8)):
        raise ValueError(
            "expected an image as uint8, or as fractions from 0 to 1, of (height, width), and 1 or "
            f"3 channels last in an array, first in a tensor; got {source.dtype} of "
            f"{tuple(source.shape)}"
        )
    whole = np.rint(pixels * 255).astype(np.uint8) if is_fraction else pixels
    whole = whole[..., 0] if whole.shape[2:] == (1,) else whole
    return Image.fromarray(np.ascontiguousarray(whole))
