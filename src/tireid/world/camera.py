"""Cameras: each has a place, a light, a colour cast, a blur, a noise and a JPEG quality."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from tireid.world.background import SCENES
from tireid.world.canvas import Array, Light, tint

_STREAM_CAMERA = 2


@dataclass(frozen=True)
class Camera:
    """The effect of one camera on all its images.

    Attributes:
        scene: Family of its surroundings.
        cast: Factors on red, green, blue.
        gain: Factor on the brightness.
        gamma: Exponent of the tone curve.
        blur: Standard deviation in pixels at 192 pixels' height.
        noise: Standard deviation of the sensor noise, in 0 to 255.
        quality: JPEG quality.
        pitch: Steepness of its view from above; see `pose.Projection`.
        light: Direction of the light.
    """

    scene: str
    cast: tuple[float, float, float]
    gain: float
    gamma: float
    blur: float
    noise: float
    quality: int
    pitch: float
    light: Light


def make_cameras(seed: int, count: int) -> list[Camera]:
    """Return the cameras of a world."""
    cameras = []
    for number in range(count):
        rng = np.random.default_rng([seed, _STREAM_CAMERA, number])
        warmth, tint = rng.uniform(-0.1, 0.1), rng.uniform(-0.035, 0.035)
        angle = rng.uniform(-1.0, 1.0)
        direction = np.array([np.sin(angle) * 0.75, 0.42, 0.75])
        direction /= np.linalg.norm(direction)
        cameras.append(
            Camera(
                scene=SCENES[number % len(SCENES)],
                cast=(1.0 + warmth, 1.0 + tint, 1.0 - warmth),
                gain=rng.uniform(0.82, 1.15),
                gamma=rng.uniform(0.88, 1.15),
                blur=rng.uniform(0.15, 0.75),
                noise=rng.uniform(1.0, 3.8),
                quality=int(rng.integers(55, 93)),
                pitch=rng.uniform(0.04, 0.2),
                light=Light(
                    float(direction[0]), float(direction[1]), float(direction[2]),
                    ambient=rng.uniform(0.5, 0.68),
                ),
            )
        )  # fmt: skip
    return cameras


def exposed(rgb: Array, camera: Camera, rng: np.random.Generator) -> bytes:
    """Return the JPEG bytes that a camera makes of a painted image.

    Args:
        rgb: Painted image, float32 (height, width, 3), 0 to 255, at its final size.
        camera: The camera.
        rng: Source of the light of the moment and of the noise.
    """
    gain = camera.gain * rng.uniform(0.85, 1.15)
    tone = np.clip(rgb * (tint(*camera.cast) * np.float32(gain / 255.0)), 0.0, 1.0)
    tone **= np.float32(camera.gamma)
    tone *= 255.0
    blur = camera.blur * rgb.shape[0] / 192.0 * rng.uniform(0.7, 1.4)
    image = Image.fromarray(tone.astype(np.uint8)).filter(ImageFilter.GaussianBlur(blur))
    noise = rng.standard_normal((*rgb.shape[:2], 1), np.float32) * np.float32(camera.noise)
    noisy = np.asarray(image, np.float32) + noise
    final = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    final.save(buffer, "JPEG", quality=camera.quality)
    return buffer.getvalue()
