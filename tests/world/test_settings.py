import numpy as np
import pytest

from tireid.world import WorldSettings
from tireid.world.background import SCENES, make_background
from tireid.world.identities import make_population
from tireid.world.picture import make_picture


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": "market"}, "layout: expected one of cuhk_pedes, icfg_pedes, rstpreid, got"),
        ({"num_train_ids": 0}, "num_train_ids: expected a whole number >= 1, got 0"),
        ({"num_val_ids": -1}, "num_val_ids: expected a whole number >= 0, got -1"),
        ({"images_per_id": 0}, "images_per_id: expected"),
        ({"captions_per_image": 0}, "captions_per_image: expected"),
        ({"num_cameras": 8}, "num_cameras: expected a whole number 1 to 7, got 8"),
        ({"twin_fraction": 1.5}, r"twin_fraction: expected a number from 0 to 1, got 1.5"),
        ({"caption_detail": -0.1}, "caption_detail: expected"),
        ({"caption_noise": float("nan")}, "caption_noise: expected"),
        ({"image_size": (10, 5)}, r"image_size: expected \(height, width\)"),
        ({"image_size": (64, 192)}, "image_size: expected a standing person's shape"),
        ({"image_size": (96, 36, 3)}, "image_size: expected"),
        ({"seed": -1}, "seed: expected a whole number >= 0, got -1"),
    ],
)
def test_bad_settings_are_refused_by_name(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        WorldSettings(**changes)


def test_settings_survive_a_round_trip_and_lists_equal_tuples():
    settings = WorldSettings(image_size=[96, 36], caption_noise=1.0)
    assert settings == WorldSettings(image_size=(96, 36), caption_noise=1.0)
    assert WorldSettings(**settings.to_dict()) == settings


@pytest.mark.parametrize("size", [(48, 16), (64, 24), (72, 16)])
def test_every_size_that_is_accepted_is_painted(size):
    settings = WorldSettings(num_train_ids=4, images_per_id=4, image_size=size, occlusion=0.5)
    for identity in make_population(settings)[:4]:
        for index in range(4):
            assert make_picture(settings, identity, index).jpeg


@pytest.mark.parametrize("scene", SCENES)
def test_a_scene_has_room_in_the_smallest_crop(scene):
    for seed in range(40):
        assert make_background(scene, 12, 40, np.random.default_rng(seed)).size == (12, 40)
