import numpy as np
import pytest
import torch

from tireid.encoders.patches import check_image_size, patch_grid, resize_positions


def test_grid_is_height_by_width():
    assert patch_grid([384, 128], 16) == (24, 8)


@pytest.mark.parametrize("image_size", [[100, 32], [96, 30], [8, 16]])
def test_a_size_that_does_not_divide_names_one_that_does(image_size):
    with pytest.raises(ValueError, match="divisible by the patch of 16 pixels") as error:
        patch_grid(image_size, 16)
    assert str(image_size) in str(error.value)
    proposed = str(error.value).split("dataset.image_size=")[1].split("]")[0].strip("[").split(", ")
    patch_grid([int(side) for side in proposed], 16)


def test_one_number_is_no_image_size():
    with pytest.raises(ValueError, match=r"expected \[height, width\], got \[96\]"):
        patch_grid([96], 16)


def test_images_of_another_size_are_refused():
    check_image_size(torch.zeros(1, 3, 32, 16), (32, 16))
    with pytest.raises(ValueError, match=r"\[32, 16\].*got \[16, 32\]"):
        check_image_size(torch.zeros(1, 3, 16, 32), (32, 16))


def bilinear(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """Each new cell's centre, in units of old cells, mixes its four neighbours; no smoothing."""
    old_height, old_width, dim = grid.shape
    new = np.zeros((height, width, dim))
    for row in range(height):
        for column in range(width):
            y = min(max((row + 0.5) * old_height / height - 0.5, 0), old_height - 1)
            x = min(max((column + 0.5) * old_width / width - 0.5, 0), old_width - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, old_height - 1), min(left + 1, old_width - 1)
            upper = grid[top, left] * (1 - x + left) + grid[top, right] * (x - left)
            lower = grid[bottom, left] * (1 - x + left) + grid[bottom, right] * (x - left)
            new[row, column] = upper * (1 - y + top) + lower * (y - top)
    return new


@pytest.mark.parametrize(("new_grid"), [(24, 8), (7, 3), (2, 14)])
def test_positions_are_interpolated_bilinearly(new_grid):
    old = torch.randn(1, 1 + 6 * 5, 4, dtype=torch.float64)
    new = resize_positions(old, old_grid=(6, 5), new_grid=new_grid)
    expected = bilinear(old[0, 1:].reshape(6, 5, 4).numpy(), *new_grid).reshape(-1, 4)
    assert torch.equal(new[:, 0], old[:, 0])
    np.testing.assert_allclose(new[0, 1:].numpy(), expected, atol=1e-12)
    assert torch.equal(resize_positions(old, old_grid=(6, 5), new_grid=(6, 5)), old)
