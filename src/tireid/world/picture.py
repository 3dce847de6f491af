"""Draw one image of an identity: JPEG bytes, captions and ground truth."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from tireid.world import parts
from tireid.world.background import make_background
from tireid.world.camera import Camera, exposed, make_cameras
from tireid.world.canvas import Array, Canvas
from tireid.world.captions import Caption, write_caption
from tireid.world.figure import Figure, make_look, reach
from tireid.world.identities import Identity
from tireid.world.occluders import paint_occluder
from tireid.world.pose import VIEWS, Projection
from tireid.world.settings import WorldSettings
from tireid.world.visibility import Sight, seen_parts, visible_attributes

_STREAM_PLAN, _STREAM_LOOK, _STREAM_IMAGE, _STREAM_CAPTION = 3, 4, 5, 6
_OVERSAMPLING = 2
_VIEW_CYCLE = (
    ("front", "front_left", "front_right"),
    ("back", "back_left", "back_right"),
    ("left", "right"),
    ("front", "back", "left", "right", "front_left", "front_right", "back_left", "back_right"),
)


@dataclass(frozen=True)
class Picture:
    """A synthetic image.

    Attributes:
        jpeg: The file's bytes.
        camera: Number of the camera, 0-based.
        captions: Its captions in the annotation file.
        truth: View, what is visible, what stands in front; plain values.
    """

    jpeg: bytes
    camera: int
    captions: tuple[Caption, ...]
    truth: dict[str, Any]


@lru_cache(maxsize=4)
def _cameras(seed: int, count: int) -> tuple[Camera, ...]:
    return tuple(make_cameras(seed, count))


def plan(settings: WorldSettings, ordinal: int) -> list[tuple[str, int]]:
    """Return view and camera of each image of an identity; they repeat once all were used."""
    rng = np.random.default_rng([settings.seed, _STREAM_PLAN, ordinal])
    count = settings.images_per_id
    start = int(rng.integers(len(_VIEW_CYCLE)))
    cameras: list[int] = []
    while len(cameras) < count:
        cameras += [int(number) for number in rng.permutation(settings.num_cameras)]
    views: list[str] = []
    for index in range(count):
        options = _VIEW_CYCLE[(start + index) % len(_VIEW_CYCLE)]
        fresh = [view for view in options if view not in views] or list(options)
        views.append(fresh[int(rng.integers(len(fresh)))])
    return list(zip(views, cameras[:count], strict=True))


def make_picture(settings: WorldSettings, identity: Identity, index: int) -> Picture:
    """Draw one image; it depends only on the settings, the identity and `index`."""
    view, number = plan(settings, identity.ordinal)[index]
    camera = _cameras(settings.seed, settings.num_cameras)[number]
    key = [settings.seed, _STREAM_IMAGE, identity.ordinal, index]
    rng = np.random.default_rng(key)
    rgb, record, scene = _paint(settings, identity, view, camera, rng)
    seen = seen_parts(record)
    sight = Sight(
        visible=visible_attributes(identity.person, view, seen),
        view=view,
        walking=scene["walking"],
        scene=camera.scene,
        straps_only=parts.STRAP in seen and parts.BAG not in seen,
    )
    captions = []
    for place in range(settings.captions_written):
        words = np.random.default_rng(
            [settings.seed, _STREAM_CAPTION, identity.ordinal, index, place]
        )
        captions.append(
            write_caption(
                identity.person,
                sight,
                detail=settings.caption_detail,
                noise=settings.caption_noise,
                rng=words,
                version=settings.version,
            )
        )
    truth = {
        "camera": number,
        "view": view,
        **scene,
        "scene": camera.scene,
        "visible": sorted(sight.visible),
        "attributes": identity.person.to_dict(settings.version),
    }
    return Picture(exposed(rgb, camera, rng), number, tuple(captions), truth)


def _paint(
    settings: WorldSettings,
    identity: Identity,
    view: str,
    camera: Camera,
    rng: np.random.Generator,
) -> tuple[Array, Array, dict[str, Any]]:
    """Return the painted image, its record of parts, and what else is in it."""
    height = round(settings.image_size[0] * rng.uniform(0.9, 1.12))
    width = round(settings.image_size[1] * height / settings.image_size[0] * rng.uniform(0.92, 1.1))
    walking = bool(rng.random() < 0.8)
    projection = Projection(VIEWS[view] + rng.uniform(-0.16, 0.16), camera.pitch)
    # Crop: the person fills most of the height; detectors cut feet or leave room above.
    tall = reach(identity.person)
    scale = height * rng.uniform(0.87, 0.97) / (tall + 0.03)
    foot = (
        width * rng.uniform(0.44, 0.56),
        height * rng.uniform(0.955, 0.985) - 0.02 * scale,
    )
    small = make_background(camera.scene, width, height, rng)
    big = small.resize((width * _OVERSAMPLING, height * _OVERSAMPLING), Image.Resampling.BILINEAR)
    canvas = Canvas(
        np.array(big, np.float32),
        scale * _OVERSAMPLING,
        (foot[0] * _OVERSAMPLING, foot[1] * _OVERSAMPLING),
        camera.light,
    )
    look = make_look(
        identity.person, np.random.default_rng([settings.seed, _STREAM_LOOK, identity.ordinal])
    )
    Figure(identity.person, look, projection, walking=walking, rng=rng).paint(canvas)
    occluder = None
    if rng.random() < settings.occlusion:
        occluder = paint_occluder(canvas, width / scale / 2, rng)
    fine = canvas.rgb
    rgb = (fine[::2, ::2] + fine[1::2, ::2] + fine[::2, 1::2] + fine[1::2, 1::2]) * 0.25
    return rgb, canvas.parts, {"walking": walking, "occluder": occluder}
