"""Joints of a person, in the person's own space and in the image."""

import math
from dataclasses import dataclass

import numpy as np

# Side from which a person is seen → turn of the person, radians; 0 faces the camera, a positive
# turn makes the person look to the right of the image.
VIEWS: dict[str, float] = {
    "front": 0.0,
    "front_right": 0.75,
    "right": 1.5,
    "back_right": 2.4,
    "back": math.pi,
    "back_left": -2.4,
    "left": -1.5,
    "front_left": -0.75,
}

Point = tuple[float, float, float]
Limb = tuple[Point, ...]  # shoulder, elbow, wrist of an arm; hip, knee, ankle, toe of a leg
HIP_HEIGHT = 0.51
SHOULDER_HEIGHT = 0.795


@dataclass(frozen=True)
class Projection:
    """Maps the person's space (x to the person's left, y up, z forward) to the image.

    Attributes:
        yaw: Turn of the person, radians, as in `VIEWS`.
        pitch: How much nearer things move down, as seen from a camera above.
    """

    yaw: float
    pitch: float

    def depth(self, point: Point) -> float:
        """Return how near to the camera a point is; 0 is the body's axis."""
        return point[2] * math.cos(self.yaw) - point[0] * math.sin(self.yaw)

    def flat(self, point: Point) -> tuple[float, float]:
        """Return a point's place in the image, in figure units."""
        x = point[0] * math.cos(self.yaw) + point[2] * math.sin(self.yaw)
        return x, point[1] - self.pitch * self.depth(point)

    def half_width(self, across: float, deep: float) -> float:
        """Return half the seen width of an upright ellipse with these half axes."""
        return math.hypot(across * math.cos(self.yaw), deep * math.sin(self.yaw))


@dataclass(frozen=True)
class Pose:
    """Joints of a whole person; `left` and `right` are the person's own."""

    left_leg: Limb
    right_leg: Limb
    left_arm: Limb
    right_arm: Limb


def walking_pose(
    rng: np.random.Generator, *, walking: bool, width: float, busy: dict[str, str]
) -> Pose:
    """Return a pose at a random phase of a step.

    Args:
        rng: Source of the phase and of the small differences.
        walking: False for somebody who stands.
        width: Factor on the width of shoulders and hips.
        busy: Action of the `left` and `right` arm, a key of `_HOLDS`; absent = swings.

    Returns:
        The joints, the lower foot on the ground.
    """
    phase = rng.uniform(0, 2 * math.pi)
    stride = rng.uniform(0.3, 0.5) if walking else rng.uniform(0.02, 0.08)
    legs = {
        side: _leg(sign, phase + offset, stride, width)
        for side, sign, offset in (("left", 1, 0.0), ("right", -1, math.pi))
    }
    sink = min(min(joint[1] for joint in leg) for leg in legs.values()) - 0.012
    arms = {
        side: _arm(sign, phase + offset, stride, width, busy.get(side), rng)
        for side, sign, offset in (("left", 1, math.pi), ("right", -1, 0.0))
    }
    return Pose(
        _lowered(legs["left"], sink),
        _lowered(legs["right"], sink),
        arms["left"],
        arms["right"],
    )


def _lowered(joints: Limb, sink: float) -> Limb:
    """Return a leg with its foot brought to the ground and its hip left in place."""
    shares = (0.0, 0.5, 1.0, 1.0)
    return tuple((x, y - s * sink, z) for (x, y, z), s in zip(joints, shares, strict=True))


def _leg(sign: int, phase: float, stride: float, width: float) -> Limb:
    thigh = stride * math.sin(phase)
    bend = 0.06 + 1.25 * stride * max(0.0, math.cos(phase))
    shin = thigh - bend
    hip = (sign * 0.052 * width, HIP_HEIGHT, 0.0)
    knee = (sign * 0.05 * width, hip[1] - 0.235 * math.cos(thigh), 0.235 * math.sin(thigh))
    ankle_x = sign * 0.045 * width
    ankle = (ankle_x, knee[1] - 0.235 * math.cos(shin), knee[2] + 0.235 * math.sin(shin))
    point_down = 0.75 * bend if bend > 0.1 else 0.0
    toe = (
        ankle_x * 1.25,
        ankle[1] - 0.022 - 0.065 * math.sin(point_down),
        ankle[2] + 0.068 * math.cos(point_down),
    )
    return hip, knee, ankle, toe


# What an arm does → (upper arm forward, elbow bend, inward turn of the forearm), radians.
_HOLDS: dict[str, tuple[float, float, float]] = {
    "umbrella": (0.35, 1.9, 0.3),
    "phone": (0.45, 1.75, 0.5),
    "book": (0.2, 1.35, 0.55),
    "bottle": (0.15, 0.9, 0.1),
    "cup": (0.3, 1.3, 0.25),
    "shopping bag": (0.05, 0.1, 0.0),
    "handbag": (0.05, 0.15, 0.0),
    "bicycle": (0.5, 0.75, -0.25),
}


def _arm(
    sign: int, phase: float, stride: float, width: float, hold: str | None, rng: np.random.Generator
) -> Limb:
    out = rng.uniform(0.06, 0.14)
    turn = 0.0
    if hold is None:
        upper = 0.8 * stride * math.sin(phase) - 0.05
        bend = 0.18 + 0.5 * stride * (1 + math.sin(phase)) * rng.uniform(0.5, 1.2)
    else:
        upper, bend, turn = _HOLDS[hold]
        upper += rng.uniform(-0.08, 0.08) + 0.2 * stride * math.sin(phase)
    shoulder = (sign * 0.1 * width, SHOULDER_HEIGHT, 0.0)
    elbow = (
        shoulder[0] + sign * 0.165 * math.sin(out),
        shoulder[1] - 0.165 * math.cos(upper),
        0.165 * math.sin(upper),
    )
    fore = upper + bend
    wrist = (
        elbow[0] + sign * 0.145 * (math.sin(out) * 0.4 - math.sin(turn)),
        elbow[1] - 0.145 * math.cos(fore),
        elbow[2] + 0.145 * math.sin(fore) * math.cos(turn),
    )
    return shoulder, elbow, wrist
