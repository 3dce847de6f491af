"""The patch grid of a vision transformer, and position tables resized to it."""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, cat

from tireid.structures import Images


def patch_grid(image_size: Sequence[int], patch_size: int) -> tuple[int, int]:
    """Return the number of rows and columns of patches.

    Args:
        image_size: Height and width, in pixels.
        patch_size: Side of a patch, in pixels.

    Raises:
        ValueError: If a side is not a positive multiple of the patch.
    """
    if len(image_size) != 2:
        raise ValueError(f"image_size: expected [height, width], got {list(image_size)}")
    if any(side < patch_size or side % patch_size for side in image_size):
        fitting = [max(1, round(side / patch_size)) * patch_size for side in image_size]
        raise ValueError(
            f"image_size: expected height and width divisible by the patch of {patch_size} pixels, "
            f"got {list(image_size)}; set dataset.image_size={fitting} or another patch_size"
        )
    height, width = image_size
    return height // patch_size, width // patch_size


def check_image_size(images: Images, image_size: Sequence[int]) -> None:
    """Check that images have the size that the position table was made for.

    Raises:
        ValueError: If height or width differ from `image_size`.
    """
    if list(images.shape[2:]) != list(image_size):
        raise ValueError(
            f"expected images of {list(image_size)} (height, width), got {list(images.shape[2:])}; "
            "resize the images, or build the encoder with their image_size"
        )


def resize_positions(
    positions: Float[Tensor, "1 old dim"],
    *,
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    class_tokens: int = 1,
    mode: Literal["bilinear", "bicubic"] = "bilinear",
) -> Float[Tensor, "1 new dim"]:
    """Resize a position table to another grid.

    Args:
        positions: Positions of the class token, if there is one, then of the patches, row by row.
        old_grid: Rows and columns of the table.
        new_grid: Rows and columns wanted.
        class_tokens: Number of class tokens, whose positions stay as they are.
        mode: How positions between others are computed.

    Source:
        LGUR's official code: bilinear, corners not aligned, no antialiasing.
    """
    class_position, patches = positions[:, :class_tokens], positions[:, class_tokens:]
    patches = rearrange(patches, "1 (h w) dim -> 1 dim h w", h=old_grid[0], w=old_grid[1])
    patches = F.interpolate(patches, size=new_grid, mode=mode, align_corners=False)
    return cat([class_position, rearrange(patches, "1 dim h w -> 1 (h w) dim")], dim=1)
