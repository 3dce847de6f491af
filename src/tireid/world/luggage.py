"""Bags and things held in a hand."""

import math

import numpy as np

from tireid.world import parts
from tireid.world.attributes import NONE, Person
from tireid.world.canvas import Array, Canvas, Texture, plain, tint
from tireid.world.cloth import Look
from tireid.world.pose import Point, Projection

_SIZES = {"small": 0.76, NONE: 1.0, "large": 1.25}


def bag_center(person: Person) -> Point:
    """Return where a backpack or a shoulder bag hangs, in the person's space."""
    if person.bag_type == "backpack":
        return (0.0, 0.7, -0.094)
    return ((0.135 if person.bag_side == "left" else -0.135), 0.5, -0.01)


def paint_worn_bag(canvas: Canvas, person: Person, look: Look, projection: Projection) -> None:
    """Paint a backpack or a shoulder bag."""
    color = look.colors["bag"]
    at = projection.flat(bag_center(person))
    size = _SIZES[person.bag_size]
    if person.bag_type == "backpack":
        half = projection.half_width(0.088 * size, 0.05 * size)
        canvas.ball(at, (half, 0.115 * size), _pack(color), squareness=3.5)
        if math.cos(projection.yaw) < -0.3:
            pocket = plain(color * 0.85, parts.BAG)
            canvas.ball((at[0], at[1] - 0.045), (half * 0.72, 0.042), pocket, squareness=4.0)
    else:
        half = projection.half_width(0.03 * size, 0.068 * size)
        canvas.ball(at, (half, 0.062 * size), _flap(color), squareness=4.5)


def _pack(color: Array) -> Texture:
    def texture(u: Array, v: Array) -> tuple[Array, int]:
        rgb = np.full((*u.shape, 3), color, np.float32)
        rgb[np.abs(v - 0.42 + 0.12 * u * u) < 0.035] *= 0.55
        rgb[np.abs(u) > 0.86] *= 0.8
        rgb[(np.abs(u) < 0.18) & (v > 0.9)] *= 0.6
        return rgb, parts.BAG

    return texture


def _flap(color: Array) -> Texture:
    def texture(u: Array, v: Array) -> tuple[Array, int]:
        rgb = np.full((*u.shape, 3), color, np.float32)
        rgb[v > 0.0] *= 0.86
        rgb[np.abs(v) < 0.06] *= 0.6
        rgb[(np.abs(u) < 0.14) & (np.abs(v + 0.12) < 0.13)] = (206.0, 188.0, 120.0)
        return rgb, parts.BAG

    return texture


def paint_hand_bag(
    canvas: Canvas, kind: str, color: Array, hand: Point, projection: Projection, size: str = NONE
) -> None:
    """Paint a handbag or a shopping bag hanging from a hand."""
    part = parts.BAG if kind == "handbag" else parts.HELD
    wide, high, drop = (0.066, 0.05, 0.115) if kind == "handbag" else (0.07, 0.085, 0.13)
    wide, high, drop = wide * _SIZES[size], high * _SIZES[size], drop * _SIZES[size]
    x, y = projection.flat((hand[0], hand[1] - drop, hand[2]))
    half = projection.half_width(0.025, wide)
    top = (x, y + drop - 0.012)
    handle = plain(color * 0.7, part)
    for side in (-0.6, 0.6):
        canvas.capsule(top, (x + side * half, y + high * 0.85), (0.006, 0.006), handle)
    if kind == "handbag":
        canvas.ball((x, y), (half, high), _clasp(color), squareness=3.2)
    else:
        canvas.ball((x, y), (half, high), plain(color, part), squareness=6.0)


def _clasp(color: Array) -> Texture:
    def texture(u: Array, v: Array) -> tuple[Array, int]:
        rgb = np.full((*u.shape, 3), color, np.float32)
        rgb[np.abs(v - 0.35) < 0.07] *= 0.6
        rgb[u * u + ((v - 0.35) * 0.8) ** 2 < 0.03] = (214.0, 196.0, 128.0)
        return rgb, parts.BAG

    return texture


def paint_held(
    canvas: Canvas, kind: str, color: Array, hand: Point, projection: Projection
) -> None:
    """Paint a thing in a hand, umbrellas apart."""
    x, y = projection.flat(hand)
    match kind:
        case "phone":
            half = projection.half_width(0.017, 0.007)
            canvas.ball((x, y + 0.026), (half, 0.032), plain(color, parts.HELD), squareness=6.0)
        case "book":
            half = projection.half_width(0.05, 0.02)
            canvas.ball((x, y + 0.015), (half, 0.06), _pages(color), squareness=8.0)
        case "bottle":
            body = plain(color, parts.HELD)
            canvas.capsule((x, y - 0.03), (x, y + 0.032), (0.018, 0.018), body)
            canvas.capsule(
                (x, y + 0.045), (x, y + 0.06), (0.008, 0.009), plain(color * 0.5, parts.HELD)
            )
        case "cup":
            canvas.capsule((x, y - 0.012), (x, y + 0.03), (0.014, 0.021), plain(color, parts.HELD))
            lid = plain(tint(70, 52, 40), parts.HELD)
            canvas.ball((x, y + 0.046), (0.022, 0.009), lid)
        case _:
            paint_hand_bag(canvas, kind, color, hand, projection)


def _pages(color: Array) -> Texture:
    def texture(u: Array, v: Array) -> tuple[Array, int]:
        rgb = np.full((*u.shape, 3), color, np.float32)
        rgb[np.abs(u) > 0.82] = (236.0, 232.0, 220.0)
        rgb[(np.abs(v - 0.3) < 0.12) & (np.abs(u) < 0.5)] *= 0.7
        return rgb, parts.HELD

    return texture


UMBRELLA_TOP = 1.13


def paint_umbrella(canvas: Canvas, color: Array, hand: Point, projection: Projection) -> None:
    """Paint an open umbrella held over the head."""
    x, y = projection.flat(hand)
    tip = (x * 0.45, UMBRELLA_TOP - 0.02)
    canvas.capsule((x, y - 0.02), tip, (0.006, 0.005), plain(tint(70, 66, 66), parts.HELD))

    def canopy(u: Array, v: Array) -> tuple[Array, Array]:
        rgb = np.full((*u.shape, 3), color, np.float32)
        panel = np.arcsin(np.clip(u / np.sqrt(np.maximum(1.0 - v * v, 0.02)), -1.0, 1.0))
        rgb *= (0.86 + 0.2 * (np.sin(4.0 * panel + 0.6) > 0))[..., None]
        rgb[np.abs((4.0 * panel + 0.6) % np.pi) < 0.16] *= 0.75
        # Scalloped lower edge.
        edge = -0.04 + 0.09 * np.abs(np.sin(4.0 * panel + 0.6))
        return rgb, np.where(v > edge, parts.HELD, 0).astype(np.uint8)

    canvas.ball((tip[0], UMBRELLA_TOP - 0.16), (0.24, 0.15), canopy)


def paint_bicycle(canvas: Canvas, color: Array, side: float, projection: Projection) -> None:
    """Paint a bicycle pushed at the person's left (`side` above 0) or right."""

    def at(y: float, z: float) -> tuple[float, float]:
        return projection.flat((side, y, z))

    def tyre(u: Array, v: Array) -> tuple[Array, Array]:
        away = np.hypot(u, v)
        solid = (away > 0.8) | (away < 0.1) if half > 0.04 else away < 1.0
        return np.full((*u.shape, 3), (38.0, 38.0, 40.0), np.float32), np.where(
            solid, parts.HELD, 0
        ).astype(np.uint8)

    half = projection.half_width(0.016, 0.135)
    rear, front = at(0.135, -0.24), at(0.135, 0.3)
    for wheel in (rear, front):
        canvas.ball(wheel, (half, 0.135), tyre)
    frame = plain(color, parts.HELD)
    saddle, pedals, head = at(0.42, -0.12), at(0.13, 0.0), at(0.42, 0.23)
    for start, end in ((rear, saddle), (rear, pedals), (pedals, saddle), (pedals, head),
                       (saddle, head), (head, front)):  # fmt: skip
        canvas.capsule(start, end, (0.012, 0.012), frame)
    dark = plain(tint(40, 38, 38), parts.HELD)
    canvas.capsule(at(0.45, -0.16), at(0.45, -0.07), (0.016, 0.012), dark)
    left, right = (projection.flat((side + x, 0.5, 0.2)) for x in (-0.09, 0.09))
    canvas.capsule(head, projection.flat((side, 0.5, 0.2)), (0.009, 0.009), dark)
    canvas.capsule(left, right, (0.012, 0.012), dark)
