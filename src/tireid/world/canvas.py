"""Shaded solids on an image: capsules, columns and balls, with a record of what covers what.

Figure units: x to the right, y up from the ground, the person's height about 1. Each solid is
painted over what is there, with its edge smoothed, lit as a round thing by one light.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Array = np.ndarray
# Takes the solid's own coordinates (two arrays) and returns colours (h, w, 3) and part numbers.
Texture = Callable[[Array, Array], tuple[Array, Array | int]]


@dataclass(frozen=True)
class Light:
    """Direction to the light (x right, y up, z toward the camera) and how deep the shadows are."""

    x: float
    y: float
    z: float
    ambient: float

    def on(self, nx: Array, ny: Array | float, nz: Array) -> Array:
        """Return the brightness factor of surfaces with these normals."""
        lambert = np.maximum(nx * self.x + ny * self.y + nz * self.z, 0.0)
        return self.ambient + (1.12 - self.ambient) * lambert


class _Window(NamedTuple):
    rows: slice
    columns: slice
    x: Array
    y: Array


class Canvas:
    """An image being painted.

    Args:
        rgb: Float32 background (height, width, 3), 0 to 255; painted in place.
        scale: Pixels per figure unit.
        foot: Column and row of the point (0, 0), in pixels.
        light: The light of the scene.
    """

    def __init__(self, rgb: Array, scale: float, foot: tuple[float, float], light: Light) -> None:
        height, width = rgb.shape[:2]
        self.rgb = rgb
        self.parts = np.zeros((height, width), np.uint8)
        self.scale = scale
        self.light = light
        self._x = ((np.arange(width) + 0.5 - foot[0]) / scale).astype(np.float32)
        self._y = ((foot[1] - np.arange(height) - 0.5) / scale).astype(np.float32)

    def _window(self, left: float, right: float, low: float, high: float) -> _Window | None:
        pad = 1.0 / self.scale
        first, last = np.searchsorted(self._x, (left - pad, right + pad))
        top, bottom = np.searchsorted(-self._y, (-high - pad, pad - low))
        if first >= last or top >= bottom:
            return None
        return _Window(
            slice(top, bottom),
            slice(first, last),
            self._x[first:last],
            self._y[top:bottom, None],
        )

    def _lay(self, window: _Window, cover: Array, rgb: Array, part: Array | int) -> None:
        view = self.rgb[window.rows, window.columns]
        view += cover[..., None] * (rgb - view)
        parts = self.parts[window.rows, window.columns]
        solid = cover > 0.5
        parts[solid] = part if isinstance(part, int) else part[solid]

    def capsule(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        radii: tuple[float, float],
        texture: Texture,
    ) -> None:
        """Paint a limb between two points; the texture gets (share of the way, side -1 to 1)."""
        (x0, y0), (x1, y1) = start, end
        r0, r1 = radii
        window = self._window(
            min(x0 - r0, x1 - r1), max(x0 + r0, x1 + r1), min(y0 - r0, y1 - r1),
            max(y0 + r0, y1 + r1),
        )  # fmt: skip
        if window is None:
            return
        dx, dy = x1 - x0, y1 - y0
        length = max(dx * dx + dy * dy, 1e-9)
        x, y = window.x - np.float32(x0), window.y - np.float32(y0)
        along = np.clip((x * dx + y * dy) / length, 0.0, 1.0)
        ex, ey = x - along * dx, y - along * dy
        radius = r0 + (r1 - r0) * along
        away = np.sqrt(ex * ex + ey * ey)
        cover = np.clip((radius - away) * self.scale + 0.5, 0.0, 1.0)
        # Lit across the limb only: joints would otherwise show as balls.
        side = np.clip((x * dy - y * dx) / (radius * length**0.5), -1.0, 1.0)
        nz = np.sqrt(1.0 - side * side)
        nx, ny = side * (dy / length**0.5), side * (-dx / length**0.5)
        rgb, part = texture(along, side)
        self._lay(window, cover, rgb * self.light.on(nx, ny, nz)[..., None], part)

    def column(self, heights: Array, half_widths: Array, centers: Array, texture: Texture) -> None:
        """Paint an upright round body given by its half width and centre at falling heights.

        The texture gets (angle from the middle seen, -pi/2 to pi/2, positive to the right; height).
        """
        reach = float(np.max(half_widths))
        middle = float(np.min(centers)), float(np.max(centers))
        window = self._window(
            middle[0] - reach, middle[1] + reach, float(heights[-1]), float(heights[0])
        )
        if window is None:
            return
        y = window.y[:, 0]
        half = np.interp(y, heights[::-1], half_widths[::-1]).astype(np.float32)[:, None]
        middle_x = np.interp(y, heights[::-1], centers[::-1]).astype(np.float32)[:, None]
        away = window.x - middle_x
        cover = np.clip((half - np.abs(away)) * self.scale + 0.5, 0.0, 1.0)
        ends = np.minimum(heights[0] - window.y, window.y - heights[-1])
        cover *= np.clip(ends * self.scale + 0.5, 0.0, 1.0)
        nx = np.clip(away / np.maximum(half, 1e-4), -1.0, 1.0)
        nz = np.sqrt(1.0 - nx * nx)
        rgb, part = texture(np.arcsin(nx), np.broadcast_to(window.y, nx.shape))
        self._lay(window, cover, rgb * self.light.on(nx, 0.25, nz)[..., None], part)

    def ball(
        self, center: tuple[float, float], radii: tuple[float, float], texture: Texture,
        *, squareness: float = 2.0,
    ) -> None:  # fmt: skip
        """Paint an ellipse, rounder or squarer; the texture gets (u, v), each -1 to 1."""
        window = self._window(
            center[0] - radii[0], center[0] + radii[0], center[1] - radii[1], center[1] + radii[1]
        )
        if window is None:
            return
        u, v = (window.x - center[0]) / radii[0], (window.y - center[1]) / radii[1]
        if squareness == 2.0:
            away = np.sqrt(u * u + v * v)
            nx, ny = u, v
        else:
            away = (np.abs(u) ** squareness + np.abs(v) ** squareness) ** (1 / squareness)
            nx, ny = u * np.abs(u), v * np.abs(v)
        u, v = np.broadcast_to(u, away.shape), np.broadcast_to(v, away.shape)
        cover = np.clip((1.0 - away) * min(radii) * self.scale + 0.5, 0.0, 1.0)
        nz = np.sqrt(np.maximum(1.0 - nx * nx - ny * ny, 0.0))
        rgb, part = texture(u, v)
        holes = part == 0 if isinstance(part, np.ndarray) else None
        if holes is not None:
            cover = np.where(holes, 0.0, cover)
        self._lay(window, cover, rgb * self.light.on(nx, ny, nz)[..., None], part)

    def shadow(self, center: tuple[float, float], radii: tuple[float, float], depth: float) -> None:
        """Darken an ellipse of the ground softly."""
        window = self._window(
            center[0] - radii[0], center[0] + radii[0], center[1] - radii[1], center[1] + radii[1]
        )
        if window is None:
            return
        u, v = (window.x - center[0]) / radii[0], (window.y - center[1]) / radii[1]
        dark = 1.0 - depth * np.clip(1.0 - u * u - v * v, 0.0, 1.0)
        self.rgb[window.rows, window.columns] *= dark[..., None]


def tint(red: float | int, green: float | int, blue: float | int) -> Array:
    """Return a colour as float32 array."""
    return np.array((red, green, blue), np.float32)


def plain(rgb: Array, part: int) -> Texture:
    """Return a texture of one colour."""

    def texture(first: Array, second: Array) -> tuple[Array, int]:
        del first, second
        return rgb, part

    return texture
