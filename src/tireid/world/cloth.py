"""Textures of clothes: patterns, openings, necklines, straps, as functions of place on the body.

A place on the body is an angle around it (0 = front, positive to the person's left, radians) and
a height in figure units.
"""

from dataclasses import dataclass

import numpy as np

from tireid.world import parts
from tireid.world.attributes import NONE, Person
from tireid.world.canvas import Array, Texture

# Height at which a top ends below an open garment that is longer.
_TOP_HEM = 0.487
# Heights between which a belt is seen below a top that is tucked in.
BELT_LOW, BELT_TOP = 0.524, 0.548


@dataclass(frozen=True)
class Look:
    """The look of a person's surfaces, the same in all images of the person.

    Attributes:
        colors: RGB (float32) by what is coloured: `skin`, `hair`, `top`, `top2`, ...
        period: Height of one stripe and the next, or of one check, in figure units.
        print_shape: 0 disc, 1 box, 2 bars, 3 diamond.
        loose: Width of the clothes relative to the body, about 1.
        fold: Phase of the folds.
    """

    colors: dict[str, Array]
    period: float
    print_shape: int
    loose: float
    fold: float


def wrapped(angle: Array) -> Array:
    """Return angles in -pi to pi."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def folds(angle: Array, height: Array, phase: float) -> Array:
    """Return the brightness factor of creases."""
    return 1.0 + 0.07 * np.sin(3.0 * angle + 34.0 * height + phase) * np.sin(
        19.0 * height - 2.0 * angle + 2.0 * phase
    )


def patterned(person: Person, look: Look, angle: Array, height: Array) -> Array:
    """Return the colours of the top's cloth at places of the body, (h, w, 3)."""
    rgb = np.full((*angle.shape, 3), look.colors["top"], np.float32)
    second = look.colors.get("top2")
    if second is None:
        return rgb
    match person.top_pattern:
        case "floral":
            x, y, _ = _grid(angle, height, 0.46, 0.05)
            radius = np.hypot(x, y)
            rgb[radius < 0.3 + 0.11 * np.cos(5.0 * np.arctan2(y, x))] = second
            rgb[radius < 0.1] = (226.0, 186.0, 60.0)
        case "dotted":
            x, y, _ = _grid(angle, height, 0.34, 0.036)
            rgb[x * x + y * y < 0.075] = second
        case "striped":
            rgb[(height / look.period) % 1.0 < 0.42] = second
        case "checked":
            rows = (height / look.period) % 1.0 < 0.34
            lines = (angle / 0.62) % 1.0 < 0.34
            rgb += 0.5 * (rows[..., None].astype(np.float32) + lines[..., None]) * (second - rgb)
        case "two-tone":
            rgb[height < 0.67] = second
    return rgb


def _grid(angle: Array, height: Array, wide: float, high: float) -> tuple[Array, Array, Array]:
    """Return places in the cells of a grid, -0.5 to 0.5, every other row moved by half a cell."""
    row = np.floor(height / high)
    x = (angle / wide + 0.5 * (row % 2)) % 1.0 - 0.5
    return x, height / high - row - 0.5, row


def torso_texture(person: Person, look: Look, yaw: float) -> Texture:
    """Return the texture of the clothed torso seen from `yaw`."""

    def texture(seen: Array, height: Array) -> tuple[Array, Array]:
        angle = wrapped(seen - yaw)
        side = np.abs(angle)
        rgb = patterned(person, look, angle, height)
        part = np.full(angle.shape, parts.TOP, np.uint8)
        if person.top_pattern in ("print", "writing"):
            _print(person, look, angle, height, rgb, part)
        _details(person, look, side, height, rgb)
        _front(person, look, side, height, rgb, part)
        neck = _neckline(person.top_type)
        skin = (side / neck[0]) ** 2 + ((height - 0.868) / neck[1]) ** 2 < 1.0
        rgb[skin], part[skin] = look.colors["skin"], parts.SKIN
        if person.outer_type != NONE:
            _outer(person, look, side, height, rgb, part)
        rgb *= folds(angle, height, look.fold)[..., None]
        _straps(person, look, angle, height, rgb, part)
        return rgb, part

    return texture


def _neckline(kind: str) -> tuple[float, float]:
    """Return the angle and depth of the bare skin below the neck."""
    return {
        "tank top": (0.75, 0.07),
        "dress": (0.7, 0.055),
        "blouse": (0.35, 0.06),
        "t-shirt": (0.5, 0.035),
        "polo shirt": (0.22, 0.05),
        "shirt": (0.2, 0.04),
    }.get(kind, (0.3, 0.02))


def _print(
    person: Person, look: Look, angle: Array, height: Array, rgb: Array, part: Array
) -> None:
    u, v = angle / 0.62, (height - 0.715) / 0.055
    match "writing" if person.top_pattern == "writing" else look.print_shape:
        case "writing":
            letters = np.sin(19.0 * u + 4.0 * np.sign(v) + look.fold) > -0.35
            mark = (np.abs(u) < 1.15) & (np.abs(v) < 0.62) & (np.abs(v) > 0.14) & letters
        case 0:
            mark = u * u + v * v < 1.0
        case 1:
            mark = (np.abs(u) < 0.85) & (np.abs(v) < 0.8) & ~((np.abs(u) < 0.4) & (np.abs(v) < 0.3))
        case 2:
            mark = (np.abs(u) < 1.0) & (np.abs(v) < 0.9) & ((v * 1.6) % 1.0 < 0.62)
        case _:
            mark = np.abs(u) + np.abs(v) < 1.15
    rgb[mark], part[mark] = look.colors["top2"], parts.PRINT


def _details(person: Person, look: Look, side: Array, height: Array, rgb: Array) -> None:
    """Darken seams, zips, plackets and pockets."""
    match person.top_type:
        case "jacket" | "coat":
            rgb[side < 0.045] *= 0.55
            rgb[(height > 0.825) & (side < 1.2)] *= 0.8
            rgb[(np.abs(height - 0.58) < 0.005) & (side > 0.4) & (side < 0.95)] *= 0.6
        case "shirt" | "blouse":
            rgb[side < 0.03] *= 0.72
            rgb[(height > 0.83) & (side < 0.7)] *= 0.84
        case "polo shirt":
            rgb[(side < 0.05) & (height > 0.74)] *= 0.7
            rgb[(height > 0.832) & (side < 0.7)] *= 0.78
        case "hoodie":
            pocket = (np.abs(height - 0.6) < 0.045) & (side < 0.62)
            rgb[pocket] *= 0.86
            rgb[(np.abs(side - 0.13) < 0.035) & (height > 0.745)] *= 0.5
        case "sweater":
            rgb[(height < 0.515) | (height > 0.838)] *= 0.85
        case "dress":
            rgb[np.abs(height - 0.615) < 0.01] *= 0.6
        case _:
            pass


def _front(person: Person, look: Look, side: Array, height: Array, rgb: Array, part: Array) -> None:
    """Paint what closes a top at the front: collar, buttons, tie."""
    if person.collar != NONE:
        collar = (height > 0.828) & (side < 1.1)
        rgb[collar], part[collar] = look.colors["collar"], parts.COLLAR
    if person.buttons != NONE:
        dots = (side / 0.075) ** 2 + (((height / 0.047) % 1.0 - 0.5) / 0.2) ** 2 < 1.0
        rgb[dots], part[dots] = look.colors["buttons"], parts.BUTTONS
    if person.tie != NONE:
        wide = 0.1 + 0.5 * np.clip(0.83 - height, 0.0, 0.2)
        wide = np.where(height < 0.58, 2.6 * (height - 0.54), wide)
        tie = (side < wide) & (height < 0.85)
        rgb[tie], part[tie] = look.colors["tie"], parts.TIE
        rgb[tie & (np.abs(height - 0.826) < 0.004)] *= 0.7


def _outer(person: Person, look: Look, side: Array, height: Array, rgb: Array, part: Array) -> None:
    opening = 0.3 + 0.55 * np.clip((0.86 - height) / 0.36, 0.0, 1.0)
    if person.outer_type == "blazer":
        opening = np.where(
            height > 0.64, 0.14 + 1.9 * (height - 0.64), 0.14 + 1.2 * (0.64 - height)
        )
    worn = side > opening
    hem = BELT_TOP if person.top_tucked == "tucked" else _TOP_HEM
    below = ~worn & (height < hem)
    # Between the flaps: the legs in the shade of the garment.
    inside = look.colors.get("lower", look.colors["skin"])
    rgb[below], part[below] = inside * (1.0 if person.lower_type == "skirt" else 0.62), parts.LOWER
    if person.belt != NONE:
        belt = below & (height > BELT_LOW)
        rgb[belt], part[belt] = look.colors["belt"], parts.BELT
    rgb[worn], part[worn] = look.colors["outer"], parts.OUTER
    rgb[worn & (side < opening + 0.09)] *= 0.66
    if person.outer_type in ("blazer", "coat"):
        rgb[worn & (np.abs(side - opening - 0.42) < 0.05) & (height > 0.68)] *= 0.75


def _straps(
    person: Person, look: Look, angle: Array, height: Array, rgb: Array, part: Array
) -> None:
    if person.bag_type == "backpack":
        strap = (np.abs(np.abs(angle) - 0.72) < 0.15) & (height > 0.63)
    elif person.bag_type == "shoulder bag":
        sign = 1.0 if person.bag_side == "left" else -1.0
        # From the shoulder opposite the bag, round the body, to the hip where the bag hangs.
        line = 0.69 - 0.165 * np.sin(angle) * sign
        strap = (np.abs(height - line) < 0.013) & (height > 0.5)
    else:
        return
    rgb[strap], part[strap] = look.colors["bag"] * 0.92, parts.STRAP


def sleeve_texture(person: Person, look: Look, *, upper: bool) -> Texture:
    """Return the texture of an upper arm or a forearm, from its upper to its lower end."""
    outer = person.outer_type != NONE
    bare_from = {"long": 2.0, "short": 0.68 if upper else -1.0, "sleeveless": -1.0}
    limit = 2.0 if outer else bare_from[person.top_sleeves]
    hem = limit if upper else 0.96
    start, length = (0.8, -0.165) if upper else (0.635, -0.145)

    def texture(along: Array, side: Array) -> tuple[Array, Array]:
        height = start + along * length
        if outer:
            rgb = np.full((*along.shape, 3), look.colors["outer"], np.float32)
            part = np.full(along.shape, parts.OUTER_SLEEVE, np.uint8)
        else:
            rgb = patterned(person, look, side * 1.2, height)
            part = np.full(along.shape, parts.SLEEVE, np.uint8)
        rgb *= folds(side, height, look.fold)[..., None]
        rgb[np.abs(along - hem) < 0.035] *= 0.78
        bare = along > limit
        rgb[bare], part[bare] = look.colors["skin"], parts.SKIN
        return rgb, part

    return texture


def leg_texture(person: Person, look: Look, *, upper: bool) -> Texture:
    """Return the texture of a thigh or a shin, from its upper to its lower end."""
    if person.lower_type in ("trousers", "jeans", "leggings"):
        limit = 2.0
    elif person.lower_type == "capris":
        limit = 2.0 if upper else 0.42
    elif person.lower_type == "shorts":
        limit = (0.95 if person.lower_length == "knee-length" else 0.6) if upper else -1.0
    else:
        limit = -1.0
    jeans = person.lower_type == "jeans"

    def texture(along: Array, side: Array) -> tuple[Array, Array]:
        rgb = np.empty((*along.shape, 3), np.float32)
        part = np.full(along.shape, parts.LOWER, np.uint8)
        bare = along > limit
        rgb[:] = look.colors.get("lower", look.colors["skin"])
        if jeans:
            # Worn denim: pale along the middle of the thigh, dark at the seam.
            fade = np.exp(-4.0 * side * side) * (np.sin(np.pi * along) if upper else 0.4)
            rgb += (0.16 * fade)[..., None] * (255.0 - rgb)
            rgb[np.abs(side) > 0.86] *= 0.8
        rgb *= folds(side, along * (0.23 if upper else 0.3), look.fold + 1.0)[..., None]
        rgb[bare], part[bare] = look.colors["skin"], parts.SKIN
        if not upper and person.socks != NONE:
            socks = bare & (along > 0.6)
            rgb[socks], part[socks] = look.colors["socks"], parts.SOCKS
        return rgb, part

    return texture


def skirt_texture(person: Person, look: Look, yaw: float) -> Texture:
    """Return the texture of a skirt, or of the lower half of a dress."""
    dress = person.top_type == "dress"

    def texture(seen: Array, height: Array) -> tuple[Array, Array]:
        angle = wrapped(seen - yaw)
        if dress:
            rgb = patterned(person, look, angle, height)
        else:
            rgb = np.full((*angle.shape, 3), look.colors["lower"], np.float32)
        # Pleats grow toward the hem.
        depth = 0.16 * np.clip((0.56 - height) / 0.2, 0.0, 1.0)
        rgb *= (1.0 + depth * np.sin(9.0 * angle + look.fold))[..., None]
        part = parts.TOP if dress else parts.LOWER
        return rgb, np.full(angle.shape, part, np.uint8)

    return texture
