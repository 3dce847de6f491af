"""Trunks: hips, skirts and the clothed torso."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tireid.world import parts
from tireid.world.attributes import NONE, Person
from tireid.world.canvas import Array, Canvas, plain
from tireid.world.cloth import BELT_LOW, BELT_TOP, Look, skirt_texture, torso_texture, wrapped
from tireid.world.pose import HIP_HEIGHT, Point, Projection

_HEMS = {"coat": 0.31, "jacket": 0.485, "hoodie": 0.485, "blazer": 0.45, "cardigan": 0.43}
_SKIRT_HEMS = {"short": 0.37, "knee-length": 0.27, "long": 0.1}


class Trunk:
    """The body between neck and knees, ready to be painted.

    Args:
        person: The person.
        look: The look of the person's surfaces.
        projection: The view.
        build: Factor on the girth.
        shoulders: Factor on the width of the shoulders.
        knees: Both knees, which a skirt follows.
    """

    def __init__(
        self,
        person: Person,
        look: Look,
        projection: Projection,
        *,
        build: float,
        shoulders: float,
        knees: Sequence[Point],
    ) -> None:
        self._person = person
        self._look = look
        self._projection = projection
        self._build = build
        self._shoulders = shoulders
        self._knees = knees

    def paint(self, canvas: Canvas) -> None:
        """Paint the hips, a skirt and the clothed torso."""
        person, look, projection = self._person, self._look, self._projection
        wide, deep = self._shoulders * look.loose, self._build**1.4 * look.loose
        man = person.sex == "man"
        waist = 0.089 if man or self._build > 1.1 else 0.077
        hips = 0.096 if man else 0.104
        hem = _HEMS.get(person.outer_type, _HEMS.get(person.top_type, 0.487))
        dress = person.top_type == "dress"
        skirt = person.lower_type == "skirt"
        if not dress:
            self._paint_hips(canvas, hips * self._build, 0.068 * deep)
        if dress or skirt:
            self._paint_skirt(canvas, hips * self._build, 0.07 * deep)
        levels = np.array(
            [
                (0.868, 0.034, 0.034), (0.853, 0.05, 0.04), (0.84, 0.08, 0.05),
                (0.82, 0.108, 0.058), (0.79, 0.115, 0.064), (0.72, 0.107, 0.07),
                (0.61, waist, 0.064), (0.53, hips, 0.07), (0.45, hips, 0.072),
                (0.25, hips * 1.16, 0.09),
            ]
        )  # fmt: skip
        hem = HIP_HEIGHT if dress else hem
        tucked = person.top_type in ("shirt", "blouse") and man and person.outer_type == NONE
        hem = 0.525 if tucked or (skirt and person.outer_type == NONE) else hem
        if person.top_tucked != NONE and person.outer_type == NONE:
            hem = BELT_TOP if person.top_tucked == "tucked" else 0.487
        heights = np.concatenate([levels[levels[:, 0] > hem][:, 0], [hem]])
        across = np.interp(heights, levels[::-1, 0], levels[::-1, 1]) * wide
        depth = np.interp(heights, levels[::-1, 0], levels[::-1, 2]) * deep
        halves = np.hypot(across * math.cos(projection.yaw), depth * math.sin(projection.yaw))
        centers = np.zeros_like(heights)
        canvas.column(heights, halves, centers, torso_texture(person, look, projection.yaw))
        if person.top_type == "hoodie" and person.outer_type == NONE:
            at = projection.flat((0.0, 0.85, -0.04))
            canvas.ball(
                at,
                (projection.half_width(0.06, 0.035), 0.028),
                plain(look.colors["top"] * 0.85, parts.TOP),
            )
        if person.scarf != NONE:
            self._paint_scarf(canvas)

    def _paint_hips(self, canvas: Canvas, across: float, deep: float) -> None:
        color = self._look.colors["lower"]
        half = self._projection.half_width(across, deep)
        heights = np.array([0.56, 0.53, 0.48, 0.455])
        widths = half * np.array([0.94, 1.0, 0.98, 0.55])

        def texture(seen: Array, height: Array) -> tuple[Array, Any]:
            rgb = np.full((*seen.shape, 3), color, np.float32)
            rgb[height > 0.537] *= 0.5
            if self._person.belt == NONE:
                return rgb, parts.LOWER
            part = np.full(seen.shape, parts.LOWER, np.uint8)
            belt = height > BELT_LOW
            rgb[belt], part[belt] = self._look.colors["belt"], parts.BELT
            buckle = belt & (np.abs(wrapped(seen - self._projection.yaw)) < 0.16)
            rgb[buckle] = (210.0, 190.0, 120.0)
            return rgb, part

        canvas.column(heights, widths, np.zeros(4), texture)

    def _paint_scarf(self, canvas: Canvas) -> None:
        """Paint a scarf round the neck, with one end hanging down the front."""
        projection, color = self._projection, self._look.colors["scarf"]

        def knitted(first: Array, second: Array) -> tuple[Array, int]:
            return color * (1.0 + 0.1 * np.sin(9.0 * first + 7.0 * second))[..., None], parts.SCARF

        if math.cos(projection.yaw) > -0.3:
            start, end = projection.flat((0.03, 0.84, 0.06)), projection.flat((0.04, 0.66, 0.078))
            canvas.capsule(start, end, (0.024, 0.027), knitted)
        at = projection.flat((0.0, 0.848, 0.008))
        canvas.ball(at, (projection.half_width(0.068, 0.062), 0.031), knitted)

    def _paint_skirt(self, canvas: Canvas, across: float, deep: float) -> None:
        hem = _SKIRT_HEMS[self._person.lower_length]
        flare = 1.0 + 0.9 * (0.53 - hem)
        heights = np.array([0.56, 0.52, 0.45, hem])
        widths = self._projection.half_width(across, deep) * np.array([0.92, 1.0, 1.08, flare])
        knees = [self._projection.flat(knee)[0] for knee in self._knees]
        # The cloth follows the legs apart.
        widths[3] = max(widths[3], 0.5 * abs(knees[0] - knees[1]) + 0.055)
        centers = np.array([0.0, 0.0, 0.2, 0.5]) * sum(knees) / 2
        texture = skirt_texture(self._person, self._look, self._projection.yaw)
        canvas.column(heights, widths, centers, texture)
