import colorsys

import pytest
import torch

from tireid.data.transforms import (
    Normalise,
    TrainTransform,
    as_bytes,
    changed_colours,
    keyed_generator,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IDENTITY = Normalise((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.fixture
def image(noise) -> torch.Tensor:
    return torch.from_numpy(noise(3, 12, 6))


def test_normalise_by_hand():
    image = torch.tensor([0, 128, 255], dtype=torch.uint8).reshape(3, 1, 1)
    expected = [(0 / 255 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    torch.testing.assert_close(Normalise(MEAN, STD)(image).flatten(), torch.tensor(expected))


def test_normalise_takes_batches(image):
    batch = torch.stack([image, image.flip(0)])
    normalise = Normalise(MEAN, STD)
    assert torch.equal(normalise(batch)[1], normalise(image.flip(0)))


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5, 0.5), STD, "mean: expected three numbers"),
        (MEAN, (0.5, 0.5, 0.5, 0.5), "std: expected three numbers"),
        (MEAN, (0.5, 0.0, 0.5), "std: expected three positive numbers"),
    ],
)
def test_statistics_are_checked(mean, std, message):
    with pytest.raises(ValueError, match=message):
        Normalise(mean, std)


def test_without_chance_the_image_is_only_normalised(image):
    transform = TrainTransform(IDENTITY, pad=0, flip_probability=0.0)
    original = image.clone()
    assert torch.equal(transform(image, keyed_generator(0)), image.float() / 255)
    assert torch.equal(image, original)


def test_flip_mirrors_left_and_right(image):
    transform = TrainTransform(IDENTITY, pad=0, flip_probability=1.0)
    assert torch.equal(transform(image, keyed_generator(0))[:, :, 0], image[:, :, -1] / 255)


def test_flip_has_its_probability(image):
    transform = TrainTransform(IDENTITY, pad=0, flip_probability=0.25)
    flips = sum(
        not torch.equal(transform(image, keyed_generator(1, index)), image / 255)
        for index in range(2000)
    )
    assert 440 < flips < 560  # 500, and three standard deviations of 19


def test_crop_shows_a_window_of_the_padded_image(image):
    """Every shift from -pad to pad occurs, and what comes from outside is black before scaling."""
    pad = 2
    transform = TrainTransform(Normalise(MEAN, STD), pad=pad, flip_probability=0.0)
    padded = torch.zeros(3, 12 + 2 * pad, 6 + 2 * pad, dtype=torch.uint8)
    padded[:, pad:-pad, pad:-pad] = image
    windows = {
        (top, left): Normalise(MEAN, STD)(padded[:, top : top + 12, left : left + 6])
        for top in range(2 * pad + 1)
        for left in range(2 * pad + 1)
    }
    seen = set()
    for index in range(400):
        result = transform(image, keyed_generator(0, index))
        seen |= {key for key, window in windows.items() if torch.equal(window, result)}
    assert seen == set(windows)


def test_erased_rectangle_has_the_mean_colour(image):
    image = image.clamp(min=1)
    areas = []
    for index in range(300):
        transform = TrainTransform(Normalise(MEAN, STD), 0, 0.0, erase_probability=1.0)
        result = transform(image, keyed_generator(0, index))
        erased = (result == 0).all(dim=0)
        rows, columns = erased.any(dim=1).sum(), erased.any(dim=0).sum()
        assert erased.sum() == rows * columns > 0
        assert torch.equal(result[:, ~erased], Normalise(MEAN, STD)(image)[:, ~erased])
        areas.append(erased.sum().item() / erased.numel())
    assert max(areas) <= 0.45
    assert min(areas) < 0.1
    assert 0.15 < sum(areas) / len(areas) < 0.25  # the draw's mean is 0.21, cutting lowers it


def test_options_do_not_change_each_other(image):
    """Erasing takes place in the very crop that is made without it."""
    plain = TrainTransform(IDENTITY, 3, 0.5)(image, keyed_generator(3, 1, 4))
    erased = TrainTransform(IDENTITY, 3, 0.5, erase_probability=1.0)(
        image, keyed_generator(3, 1, 4)
    )
    kept = erased != 0
    assert torch.equal(plain[kept], erased[kept])
    jittered = TrainTransform(as_bytes, 3, 0.5, colour_jitter=0.3)(image, keyed_generator(3, 1, 4))
    assert torch.equal((jittered == 0).all(dim=0), (plain == 0).all(dim=0))


def grey(pixels):
    return 0.299 * pixels[0] + 0.587 * pixels[1] + 0.114 * pixels[2]


@pytest.mark.parametrize("factors", [(0.8, 1, 1), (1, 0.7, 1), (1, 1, 1.4), (0.9, 1.2, 0.6)])
def test_colours_are_changed_one_after_the_other(factors):
    """Brightness towards black, contrast towards the mean grey, saturation towards a pixel's."""
    image = torch.randint(90, 160, (3, 5, 4), dtype=torch.uint8)
    brightness, contrast, saturation = factors
    pixels = image.double() * brightness
    mean = grey(pixels).mean()
    pixels = mean + contrast * (pixels - mean)
    pixels = grey(pixels) + saturation * (pixels - grey(pixels))
    found = changed_colours(image, *map(float, factors)).double()
    assert (found - pixels).abs().max() <= 0.501


def test_colours_that_leave_the_range_are_cut_and_hues_stay():
    image = torch.tensor([200, 40, 60], dtype=torch.uint8)[:, None, None]
    assert changed_colours(image, 2.0, 1.0, 1.0).flatten().tolist() == [255, 80, 120]
    hues = [
        colorsys.rgb_to_hsv(*(changed.flatten() / 255).tolist())[0]
        for changed in (image, changed_colours(image, 0.9, 1.0, 0.8))
    ]
    assert hues[0] == pytest.approx(hues[1], abs=0.01)


def test_jitter_is_drawn_for_each_image_within_its_bounds(image):
    transform = TrainTransform(as_bytes, 0, 0.0, colour_jitter=0.2)
    flat = torch.full((3, 2, 2), 100, dtype=torch.uint8)  # whose brightness alone can change
    values = {transform(flat, keyed_generator(0, index))[0, 0, 0].item() for index in range(500)}
    assert values == set(range(80, 121))
    again = [transform(image, keyed_generator(0, index)) for index in (1, 1, 2)]
    assert torch.equal(again[0], again[1])
    assert not torch.equal(again[0], again[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pad": -1}, "pad: expected a number of pixels >= 0, got -1"),
        ({"flip_probability": 1.5}, r"flip_probability: expected a number in \[0, 1\], got 1.5"),
        ({"erase_probability": -0.1}, "erase_probability: expected a number"),
        ({"colour_jitter": 1.5}, r"colour_jitter: expected a number in \[0, 1\], got 1.5"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        TrainTransform(IDENTITY, **options)


def test_keys_give_unlike_draws():
    draws = {
        torch.rand(1, generator=keyed_generator(*key)).item()
        for key in [(0, 0, 1), (0, 1, 0), (1, 0, 0), (-1, 0, 0), (0, 0), (2**40, 0, 1)]
    }
    assert len(draws) == 6
    assert torch.rand(1, generator=keyed_generator(1, 2)) == torch.rand(
        1, generator=keyed_generator(1, 2)
    )


def test_bytes_cannot_be_erased():
    with pytest.raises(ValueError, match="erase_probability: expected 0 for images as bytes"):
        TrainTransform(as_bytes, erase_probability=0.1)
