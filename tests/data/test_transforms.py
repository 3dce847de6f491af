import pytest
import torch

from tireid.data.transforms import Normalise, TrainTransform, as_bytes, keyed_generator

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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pad": -1}, "pad: expected a number of pixels >= 0, got -1"),
        ({"flip_probability": 1.5}, r"flip_probability: expected a number in \[0, 1\], got 1.5"),
        ({"erase_probability": -0.1}, "erase_probability: expected a number"),
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
