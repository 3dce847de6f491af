"""Heads: face, hair, glasses and headgear."""

import math

import numpy as np

from tireid.world import parts
from tireid.world.attributes import NONE, Person
from tireid.world.canvas import Array, Canvas, plain
from tireid.world.cloth import Look, wrapped
from tireid.world.pose import Point, Projection

_SIZES = {"tall": 0.98, "average": 1.06, "short": 1.15}
_AGES = {"child": 1.32, "young": 1.05}
CHIN = 0.855


class Head:
    """One head, ready to be painted.

    Args:
        person: The person.
        look: The look of the person's surfaces.
        projection: The view.
    """

    def __init__(self, person: Person, look: Look, projection: Projection) -> None:
        self._person = person
        self._look = look
        self._projection = projection
        size = _SIZES[person.height] * _AGES.get(person.age, 1.0)
        self._high = 0.069 * size
        self._wide = projection.half_width(0.05, 0.058) * size
        self._deep = 0.056 * size
        self._y = CHIN + self._high
        self.top = self._y + self._high
        self._center = projection.flat((0.0, self._y, 0.012))

    def paint_neck(self, canvas: Canvas) -> None:
        """Paint the neck, which the clothes then cover."""
        start = self._projection.flat((0.0, 0.83, 0.0))
        end = self._projection.flat((0.0, 0.885, 0.008))
        skin = plain(self._look.colors["skin"] * 0.86, parts.SKIN)
        canvas.capsule(start, end, (0.034, 0.03), skin)

    def paint_hanging_hair(self, canvas: Canvas) -> None:
        """Paint the hair that hangs behind the shoulders."""
        person, projection = self._person, self._projection
        if person.hair_style in (NONE, "bun"):
            return
        length = {"medium": 0.1, "long": 0.2}[person.hair_length]
        hair = self._look.colors["hair"]

        curly = person.hair_style == "curly"

        def strands(along: Array, side: Array) -> tuple[Array, int]:
            turn = 6.0 * np.sin(14.0 * along) if curly else 3.0 * along
            streak = 1.0 + (0.3 if curly else 0.16) * np.sin(11.0 * side + turn + self._look.fold)
            return hair * streak[..., None], parts.HAIR

        if person.hair_style != "ponytail":
            top = projection.flat((0.0, self._y, -0.022))
            low = projection.flat((0.0, self._y - length, -0.045))
            width = projection.half_width(0.056, 0.036)
            canvas.capsule(top, low, (width, width * 0.92), strands)
            if curly:
                self._paint_curls(canvas, top, low, width)
        else:
            knot = projection.flat((0.0, self._y + 0.02, -0.062))
            bend = projection.flat((0.0, self._y - 0.03, -0.085))
            low = projection.flat((0.0, self._y - length, -0.07))
            canvas.capsule(knot, bend, (0.018, 0.022), strands)
            canvas.capsule(bend, low, (0.022, 0.01), strands)

    def _paint_curls(
        self, canvas: Canvas, top: tuple[float, float], low: tuple[float, float], width: float
    ) -> None:
        """Paint tufts down both sides of hanging hair."""
        hair = self._look.colors["hair"]
        for step in range(1, 6):
            share = step / 5
            y = top[1] + share * (low[1] - top[1])
            x = top[0] + share * (low[0] - top[0])
            for sign in (-1, 1):
                shade = 0.82 if (step + (sign > 0)) % 2 else 1.1
                tuft = plain(hair * np.float32(shade), parts.HAIR)
                canvas.ball((x + sign * width * 0.95, y), (0.021, 0.019), tuft)

    def paint(self, canvas: Canvas) -> None:
        """Paint the head with its hair, face, glasses and headgear."""
        bun_at = (0.0, self._y + 0.045, -0.06)
        bun = self._person.hair_style == "bun"
        if bun and self._projection.depth(bun_at) < 0:
            self._paint_bun(canvas, bun_at)
        canvas.ball(self._center, (self._wide, self._high), self._texture)
        if bun and self._projection.depth(bun_at) >= 0:
            self._paint_bun(canvas, bun_at)
        if self._person.hat_type != NONE:
            self._paint_hat(canvas)

    def _paint_bun(self, canvas: Canvas, at: Point) -> None:
        texture = plain(self._look.colors["hair"] * 0.92, parts.HAIR)
        canvas.ball(self._projection.flat(at), (0.028, 0.028), texture)

    def _texture(self, u: Array, v: Array) -> tuple[Array, Array]:
        """Return face and hair at places of the ball of the head."""
        nz = np.sqrt(np.maximum(1.0 - u * u - v * v, 0.0))
        angle = wrapped(np.arctan2(u, nz + 1e-6) - self._projection.yaw)
        side = np.abs(angle)
        colors = self._look.colors
        rgb = np.full((*u.shape, 3), colors["skin"], np.float32)
        part = np.full(u.shape, parts.SKIN, np.uint8)
        rgb[(v < -0.75) & (side < 1.2)] *= 0.9
        eyes = (np.abs(side - 0.36) < 0.15) & (np.abs(v - 0.02) < 0.065)
        rgb[eyes] = (46.0, 36.0, 34.0)
        rgb[(np.abs(side - 0.38) < 0.2) & (np.abs(v - 0.18) < 0.035)] *= 0.6
        rgb[(side < 0.1) & (np.abs(v + 0.2) < 0.07)] *= 0.86
        lips = (side < 0.25) & (np.abs(v + 0.47) < 0.05)
        rgb[lips] *= (0.86, 0.6, 0.6) if self._person.sex == "woman" else (0.8, 0.7, 0.68)
        self._paint_glasses(side, v, rgb, part)
        if self._person.hair_length != "bald":
            hair = v > self._hairline(side)
            streak = 1.0 + 0.12 * np.sin(16.0 * angle + 5.0 * v + self._look.fold)
            rgb[hair] = (colors["hair"] * streak[..., None])[hair]
            part[hair] = parts.HAIR
        else:
            # A bald head is what the captions name; it counts as seen like hair.
            part[(v > 0.45) | ((side > 1.7) & (v > -0.2))] = parts.HAIR
        return rgb, part

    def _hairline(self, side: Array) -> Array:
        """Return the height on the head above which hair grows, by angle from the face."""
        if self._person.hair_length == "short":
            low, front, turn = -0.45, 0.5, 1.35
        else:
            low, front, turn = -1.1, 0.46, 1.05
        return front + (low - front) / (1.0 + np.exp(-9.0 * (side - turn)))

    def _paint_glasses(self, side: Array, v: Array, rgb: Array, part: Array) -> None:
        if self._person.glasses == NONE:
            return
        lens = ((np.abs(side - 0.38) / 0.3) ** 2 + ((v - 0.02) / 0.19) ** 2) < 1.0
        bow = (np.abs(v - 0.06) < 0.055) & (side < 1.45)
        if self._person.glasses == "sunglasses":
            frame = lens | bow
        else:
            inner = ((np.abs(side - 0.38) / 0.2) ** 2 + ((v - 0.02) / 0.1) ** 2) < 1.0
            frame = (lens & ~inner) | bow & ~lens
        rgb[frame], part[frame] = (24.0, 22.0, 26.0), parts.GLASSES

    def _paint_hat(self, canvas: Canvas) -> None:
        color = self._look.colors["hat"]
        kind = self._person.hat_type
        x, y = self._center
        wide, high = self._wide * 1.12, self._high * 1.08
        edge = {"cap": 0.28, "beanie": 0.16, "sun hat": 0.38}[kind]

        def dome(u: Array, v: Array) -> tuple[Array, Array]:
            rgb = np.full((*u.shape, 3), color, np.float32)
            if kind == "beanie":
                rgb[v < edge + 0.26] *= 0.8
            elif kind == "sun hat":
                rgb[v < edge + 0.2] *= 0.45
            else:
                rgb[np.abs(u) < 0.05] *= 0.85
            return rgb, np.where(v > edge, parts.HAT, 0).astype(np.uint8)

        if kind == "sun hat":
            brim = plain(color * 0.95, parts.HAT)
            canvas.ball((x, y + edge * high), (wide * 1.9, 0.02), brim)
        canvas.ball((x, y + 0.004), (wide, high), dome)
        if kind == "cap":
            rim = y + (edge + 0.06) * high
            forward = self._projection.flat((0.0, 0.0, self._deep + 0.05))[0]
            facing = math.cos(self._projection.yaw)
            texture = plain(color * 0.78, parts.HAT)
            if facing > 0.4:
                canvas.ball((forward * 0.7, rim), (wide * 0.88, 0.014), texture)
            elif facing > -0.4:
                canvas.capsule((x, rim), (forward, rim - 0.006), (0.014, 0.007), texture)
