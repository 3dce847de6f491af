"""One person, painted from any side: the parts of the body in the order of their depth."""

import math

import numpy as np

from tireid.world import parts
from tireid.world.attributes import ACCESSORIES, NONE, Person
from tireid.world.canvas import Array, Canvas, plain, tint
from tireid.world.cloth import Look, leg_texture, sleeve_texture
from tireid.world.head import Head
from tireid.world.luggage import (
    UMBRELLA_TOP,
    bag_center,
    paint_bicycle,
    paint_hand_bag,
    paint_held,
    paint_umbrella,
    paint_worn_bag,
)
from tireid.world.palette import COLORS, HAIR_COLORS, SKIN_TONES
from tireid.world.pose import Limb, Point, Projection, walking_pose
from tireid.world.trunk import Trunk

_BUILDS = {"slim": 0.88, "average": 1.0, "heavy": 1.2}
_AGES = {"child": 0.9, "young": 0.96}  # factors on the width of the shoulders
_FITS = {"tight": 0.85, NONE: 1.0, "loose": 1.17}
_BULKY = ("jacket", "coat", "hoodie", "sweater")


def make_look(person: Person, rng: np.random.Generator) -> Look:
    """Draw how the surfaces of a person look, equal in all images of that person."""
    named = {
        "top": person.top_color,
        "top2": person.top_color2,
        "outer": person.outer_color,
        "lower": person.lower_color,
        "shoes": person.shoes_color,
        "bag": person.bag_color,
        "hat": person.hat_color,
        "held": person.held_color,
        **{name: getattr(person, name) for name in ACCESSORIES},
    }
    tables = {name: COLORS[color].rgb for name, color in named.items() if color != NONE}
    tables["skin"] = SKIN_TONES[person.skin]
    if person.hair_color != NONE:
        tables["hair"] = HAIR_COLORS[person.hair_color].rgb
    colors = {
        name: np.clip(tint(*rgb) + rng.normal(0, 5, 3).astype(np.float32), 0, 255)
        for name, rgb in tables.items()
    }
    bulky = person.outer_type != NONE or person.top_type in _BULKY
    return Look(
        colors=colors,
        period=float(rng.uniform(0.055, 0.085)),
        print_shape=int(rng.integers(4)),
        loose=float(rng.uniform(1.0, 1.07)) * (1.07 if bulky else 1.0),
        fold=float(rng.uniform(0, 6.28)),
    )


def reach(person: Person) -> float:
    """Return the height of the highest thing to be seen of a person, in figure units."""
    if person.age == "child":
        return 1.17  # the head is larger, and a detector leaves a child more room
    return UMBRELLA_TOP if person.held_type == "umbrella" else 1.02


class Figure:
    """One person in one pose, seen from one side.

    Args:
        person: The person.
        look: Surfaces from `make_look`.
        projection: The view.
        walking: False for somebody who stands.
        rng: Source of the pose.
    """

    def __init__(
        self,
        person: Person,
        look: Look,
        projection: Projection,
        *,
        walking: bool,
        rng: np.random.Generator,
    ) -> None:
        self._person = person
        self._look = look
        self._projection = projection
        self._build = _BUILDS[person.build]
        self._shoulders = self._build * (1.0 if person.sex == "man" else 0.9)
        self._shoulders *= _AGES.get(person.age, 1.0)
        bag_hand = person.bag_side
        self._held_hand = "right" if bag_hand == "left" else "left"
        busy: dict[str, str] = {}
        if person.bag_type == "handbag":
            busy[bag_hand] = "handbag"
        if person.held_type != NONE:
            busy[self._held_hand] = person.held_type
        self._pose = walking_pose(rng, walking=walking, width=self._shoulders, busy=busy)
        self._head = Head(person, look, projection)
        knees = [leg[1] for leg in (self._pose.left_leg, self._pose.right_leg)]
        self._trunk = Trunk(
            person, look, projection, build=self._build, shoulders=self._shoulders, knees=knees
        )

    def paint(self, canvas: Canvas) -> None:
        """Paint the person with all that belongs to it."""
        facing = math.cos(self._projection.yaw)
        worn_bag = self._person.bag_type in ("backpack", "shoulder bag")
        bag_depth = self._projection.depth(bag_center(self._person))
        arms = [
            (self._arm_depth(limb), limb, side)
            for side, limb in (("left", self._pose.left_arm), ("right", self._pose.right_arm))
        ]
        canvas.shadow((0.05, 0.0), (0.24, 0.035), 0.55)
        if facing >= -0.15:
            self._head.paint_hanging_hair(canvas)
        if worn_bag and bag_depth < 0:
            paint_worn_bag(canvas, self._person, self._look, self._projection)
        behind = [arm for arm in arms if arm[0] < -0.03]
        before = [arm for arm in arms if arm[0] >= -0.03]
        for _, limb, side in sorted(behind, key=lambda arm: arm[0]):
            self._paint_arm(canvas, limb, side)
        beside = 0.2 if self._held_hand == "left" else -0.2
        bicycle = self._person.held_type == "bicycle"
        before_legs = self._projection.depth((beside, 0.0, 0.0)) < 0
        if bicycle and before_legs:
            paint_bicycle(canvas, self._look.colors["held"], beside, self._projection)
        self._paint_legs(canvas)
        self._head.paint_neck(canvas)
        self._trunk.paint(canvas)
        if facing >= -0.15:
            self._head.paint(canvas)
        if worn_bag and bag_depth >= 0 and facing < 0:
            paint_worn_bag(canvas, self._person, self._look, self._projection)
        for _, limb, side in sorted(before, key=lambda arm: arm[0]):
            self._paint_arm(canvas, limb, side)
        if worn_bag and bag_depth >= 0 and facing >= 0:
            paint_worn_bag(canvas, self._person, self._look, self._projection)
        if facing < -0.15:
            self._head.paint(canvas)
            self._head.paint_hanging_hair(canvas)
        if bicycle and not before_legs:
            paint_bicycle(canvas, self._look.colors["held"], beside, self._projection)
        if self._person.held_type == "umbrella":
            hand = self._hand(self._held_limb())
            paint_umbrella(canvas, self._look.colors["held"], hand, self._projection)

    def _held_limb(self) -> Limb:
        return self._pose.left_arm if self._held_hand == "left" else self._pose.right_arm

    def _arm_depth(self, limb: Limb) -> float:
        depths = [self._projection.depth(joint) for joint in limb]
        return sum(depths) / len(depths)

    @staticmethod
    def _hand(limb: Limb) -> Point:
        elbow, wrist = limb[1:3]
        x, y, z = (w + 0.2 * (w - e) for w, e in zip(wrist, elbow, strict=True))
        return x, y, z

    def _paint_arm(self, canvas: Canvas, limb: Limb, side: str) -> None:
        person, look, projection = self._person, self._look, self._projection
        shoulder, elbow, wrist = (projection.flat(joint) for joint in limb)
        hand = self._hand(limb)
        cloth = 1.12 if person.top_sleeves == "long" or person.outer_type != NONE else 1.0
        thick = self._build**0.7 * cloth
        skin = plain(look.colors["skin"], parts.SKIN)
        holds = person.held_type if side == self._held_hand else NONE
        if person.bag_type == "handbag" and side == person.bag_side:
            size = person.bag_size
            paint_hand_bag(canvas, "handbag", look.colors["bag"], hand, projection, size)
        canvas.capsule(wrist, projection.flat(hand), (0.019, 0.021), skin)
        lower = sleeve_texture(person, look, upper=False)
        canvas.capsule(elbow, wrist, (0.031 * thick, 0.022 * cloth), lower)
        upper = sleeve_texture(person, look, upper=True)
        canvas.capsule(shoulder, elbow, (0.032 * thick, 0.031 * thick), upper)
        if person.watch != NONE and side == "left" and cloth == 1.0:
            near, far = (
                (elbow[0] + s * (wrist[0] - elbow[0]), elbow[1] + s * (wrist[1] - elbow[1]))
                for s in (0.86, 0.97)
            )
            canvas.capsule(near, far, (0.026, 0.026), plain(look.colors["watch"], parts.WATCH))
        if holds not in (NONE, "umbrella", "bicycle"):
            paint_held(canvas, holds, look.colors["held"], hand, projection)

    def _paint_legs(self, canvas: Canvas) -> None:
        legs = [self._pose.left_leg, self._pose.right_leg]
        legs.sort(key=lambda leg: self._projection.depth(leg[1]))
        shade = (0.82, 1.0)
        for leg, factor in zip(legs, shade, strict=True):
            self._paint_leg(canvas, leg, factor)

    def _paint_leg(self, canvas: Canvas, leg: Limb, factor: float) -> None:
        person, look = self._person, self._look
        hip, knee, ankle, toe = (self._projection.flat(joint) for joint in leg)
        thick = self._build**0.8
        thick *= _FITS[person.lower_fit]
        radii = {"jeans": (0.062, 0.041, 0.034), "trousers": (0.066, 0.047, 0.042),
                 "leggings": (0.057, 0.036, 0.026), "capris": (0.06, 0.042, 0.028)}  # fmt: skip
        r_hip, r_knee, r_ankle = radii.get(person.lower_type, (0.056, 0.036, 0.023))
        toes_first = self._projection.depth(leg[3]) < self._projection.depth(leg[2])
        if toes_first:
            self._paint_foot(canvas, ankle, toe)
        for upper, start, end, r0, r1 in (
            (False, knee, ankle, r_knee, r_ankle),
            (True, hip, knee, r_hip, r_knee),
        ):
            texture = leg_texture(person, look, upper=upper)

            def dimmed(along: Array, side: Array, texture=texture) -> tuple[Array, Array | int]:
                rgb, part = texture(along, side)
                return rgb * factor, part

            canvas.capsule(start, end, (r0 * thick, r1 * thick), dimmed)
            if not upper and not toes_first:
                self._paint_foot(canvas, ankle, toe)
        if person.lower_type == "shorts":
            reach = 0.95 if person.lower_length == "knee-length" else 0.6
            hem = (hip[0] + reach * (knee[0] - hip[0]), hip[1] + reach * (knee[1] - hip[1]))
            cloth = plain(look.colors["lower"] * factor, parts.LOWER)
            canvas.capsule(hip, hem, (0.066 * thick, 0.056 * thick), cloth)

    def _paint_foot(
        self, canvas: Canvas, ankle: tuple[float, float], toe: tuple[float, float]
    ) -> None:
        kind, color = self._person.shoes_type, self._look.colors["shoes"]
        shoe = plain(color, parts.SHOES)
        heel = (ankle[0] - 0.15 * (toe[0] - ankle[0]), ankle[1] - 0.008)
        if kind == "sandals":
            canvas.capsule(heel, toe, (0.02, 0.017), plain(self._look.colors["skin"], parts.SKIN))
            canvas.capsule(heel, ankle, (0.016, 0.02), shoe)
            middle = (0.5 * (heel[0] + toe[0]), 0.5 * (heel[1] + toe[1]))
            canvas.ball(middle, (0.021, 0.013), shoe)
        elif kind == "flip flops":
            canvas.capsule(heel, toe, (0.019, 0.016), plain(self._look.colors["skin"], parts.SKIN))
            canvas.capsule(
                (heel[0], heel[1] - 0.016), (toe[0], toe[1] - 0.014), (0.008, 0.008), shoe
            )
            middle = (0.35 * heel[0] + 0.65 * toe[0], 0.35 * heel[1] + 0.65 * toe[1])
            canvas.ball(middle, (0.02, 0.018), shoe)
        elif kind == "flats":
            skin = plain(self._look.colors["skin"], parts.SKIN)
            canvas.capsule(heel, toe, (0.02, 0.016), shoe)
            canvas.capsule(
                ankle,
                ((ankle[0] + toe[0]) / 2, (ankle[1] + toe[1]) / 2 + 0.008),
                (0.018, 0.01),
                skin,
            )
        elif kind == "high heels":
            canvas.capsule((heel[0], heel[1] + 0.01), toe, (0.019, 0.014), shoe)
            canvas.capsule(heel, (heel[0], toe[1] - 0.01), (0.008, 0.006), shoe)
        else:
            canvas.capsule(heel, toe, (0.025, 0.021), shoe)
            if kind == "boots":
                canvas.capsule(heel, (ankle[0], ankle[1] + 0.07), (0.03, 0.034), shoe)
            if kind == "sneakers":
                sole = plain(tint(214, 212, 206), parts.SHOES)
                low = 0.017
                canvas.capsule(
                    (heel[0], heel[1] - low), (toe[0], toe[1] - low), (0.007, 0.007), sole
                )
