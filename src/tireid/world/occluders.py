"""Things that stand between the camera and the person, at an edge of the image."""

import numpy as np

from tireid.world import parts
from tireid.world.canvas import Array, Canvas, plain, tint

OCCLUDERS = ("pole", "bin", "person", "foliage")


def paint_occluder(canvas: Canvas, half_width: float, rng: np.random.Generator) -> str:
    """Paint one thing in front of the person and return what it is.

    Args:
        canvas: The image, with the person painted.
        half_width: Half the seen width of the image, in figure units.
        rng: Source of what it is and where.
    """
    kind = OCCLUDERS[int(rng.integers(len(OCCLUDERS)))]
    side = 1.0 if rng.random() < 0.5 else -1.0
    edge = side * half_width
    match kind:
        case "pole":
            _pole(canvas, edge * rng.uniform(0.45, 0.85), rng)
        case "bin":
            _bin(canvas, edge * rng.uniform(0.5, 0.8), rng)
        case "person":
            _shoulder(canvas, edge * rng.uniform(0.95, 1.15), rng)
        case _:
            _foliage(canvas, edge, rng)
    return kind


def _color(rng: np.random.Generator, low: int, high: int) -> Array:
    return rng.uniform(low, high, 3).astype(np.float32)


def _pole(canvas: Canvas, x: float, rng: np.random.Generator) -> None:
    color = np.float32(rng.uniform(60, 170)) * tint(1.0, 1.0, 1.03)
    width = rng.uniform(0.012, 0.026)
    canvas.capsule((x, -0.1), (x, 1.4), (width, width), plain(color, parts.OCCLUDER))


def _bin(canvas: Canvas, x: float, rng: np.random.Generator) -> None:
    colors = (tint(50, 84, 62), tint(70, 74, 80), tint(46, 66, 108))
    color = colors[int(rng.integers(3))] * np.float32(rng.uniform(0.8, 1.2))
    high = rng.uniform(0.2, 0.34)

    def sides(seen: Array, height: Array) -> tuple[Array, int]:
        rgb = np.full((*seen.shape, 3), color, np.float32)
        rgb[height > high - 0.03] *= 0.7
        rgb[(seen / 0.35) % 1.0 < 0.12] *= 0.86
        return rgb, parts.OCCLUDER

    heights = np.array([high, high - 0.03, -0.08])
    canvas.column(heights, np.array([0.115, 0.115, 0.095]), np.full(3, x), sides)


def _shoulder(canvas: Canvas, x: float, rng: np.random.Generator) -> None:
    """Paint part of somebody nearer to the camera, cut by the edge of the image."""
    cloth = plain(_color(rng, 30, 220), parts.OCCLUDER)
    legs = plain(_color(rng, 25, 90), parts.OCCLUDER)
    drop = rng.uniform(0.0, 0.1)
    canvas.capsule((x, 0.5 - drop), (x, -0.2), (0.1, 0.07), legs)
    canvas.capsule((x, 0.76 - drop), (x, 0.52 - drop), (0.13, 0.11), cloth)
    head = plain(_color(rng, 30, 110), parts.OCCLUDER)
    canvas.ball((x, 0.97 - drop), (0.065, 0.085), head)


def _foliage(canvas: Canvas, edge: float, rng: np.random.Generator) -> None:
    low = rng.random() < 0.5
    for _ in range(16):
        x = edge * rng.uniform(0.7, 1.1)
        y = rng.uniform(-0.1, 0.4) if low else rng.uniform(0.45, 1.1)
        green = tint(66, 108, 52) * np.float32(rng.uniform(0.55, 1.25))
        radii = (rng.uniform(0.02, 0.05), rng.uniform(0.015, 0.035))
        canvas.ball((x, y), radii, plain(green, parts.OCCLUDER))
