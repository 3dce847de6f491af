"""Surroundings: seven families of cluttered backgrounds, painted small and soft."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Rgb = tuple[int, int, int]
_CAR_PAINTS: tuple[Rgb, ...] = (
    (214, 214, 212), (150, 152, 156), (44, 46, 50), (146, 40, 40), (44, 66, 120), (92, 96, 98),
)  # fmt: skip
_FADED: tuple[Rgb, ...] = (
    (166, 88, 76), (84, 108, 148), (196, 176, 122), (104, 136, 104), (202, 198, 190),
    (78, 76, 80), (176, 134, 96), (138, 104, 138), (128, 156, 164), (208, 152, 84),
)  # fmt: skip
SCENES = ("street", "wall", "shop", "grass", "plaza", "parking", "hall")


def make_background(scene: str, width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Return an image of a place without people.

    Args:
        scene: One of `SCENES`.
        width: Width in pixels.
        height: Height in pixels.
        rng: Source of everything that differs between two images of the place.
    """
    image = Image.new("RGB", (width, height))
    painter = _Painter(image, rng)
    _PAINTERS[scene](painter)
    if rng.random() < 0.3:
        painter.passer_by()
    rough = np.asarray(image, np.float32)
    for cell, depth in ((24, 9.0), (5, 5.0)):
        rough = rough + _mottle(width, height, cell, depth, rng)
    soft = Image.fromarray(np.clip(rough, 0, 255).astype(np.uint8))
    return soft.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 1.2))))


def _mottle(
    width: int, height: int, cell: int, depth: float, rng: np.random.Generator
) -> np.ndarray:
    """Return smooth random unevenness of a surface, (height, width, 1), about zero."""
    spots = rng.normal(128.0, depth, (height // cell + 2, width // cell + 2))
    image = Image.fromarray(np.clip(spots, 0, 255).astype(np.uint8))
    smooth = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth, np.float32)[..., None] - 128.0


class _Painter:
    """Draws the things of a place."""

    def __init__(self, image: Image.Image, rng: np.random.Generator) -> None:
        self.draw = ImageDraw.Draw(image)
        self.width, self.height = image.size
        self.rng = rng
        self.horizon = int(self.height * rng.uniform(0.3, 0.62))

    def tone(self, rgb: Rgb, spread: float = 14.0) -> Rgb:
        """Return a colour near `rgb`."""
        shift = self.rng.normal(0, spread) + self.rng.normal(0, spread * 0.35, 3)
        r, g, b = (int(np.clip(c + s, 0, 255)) for c, s in zip(rgb, shift, strict=True))
        return r, g, b

    def bright(self) -> Rgb:
        """Return any colour that signs and goods have, a little faded."""
        base = _FADED[int(self.rng.integers(len(_FADED)))]
        return self.tone(base, 22.0)

    def ground(self, rgb: Rgb) -> None:
        """Fill below the horizon, lighter toward the front."""
        base = self.tone(rgb)
        steps = 6
        depth = self.height - self.horizon
        for step in range(steps):
            top = self.horizon + depth * step // steps
            lift = 4 * step
            band = (min(255, base[0] + lift), min(255, base[1] + lift), min(255, base[2] + lift))
            self.draw.rectangle((0, top, self.width, self.height), fill=band)

    def backdrop(self, rgb: Rgb) -> None:
        """Fill above the horizon."""
        self.draw.rectangle((0, 0, self.width, self.horizon), fill=self.tone(rgb))

    def car(self, center: float, base: float | int, size: float) -> None:
        """Draw a car whose wheels stand at `base`."""
        paint = _CAR_PAINTS[int(self.rng.integers(len(_CAR_PAINTS)))]
        color, dark = self.tone(paint), self.tone((36, 40, 48), 6.0)
        left, right = center - size, center + size
        top = base - size * 0.42
        self.draw.rounded_rectangle((left, top, right, base), size * 0.12, fill=color)
        roof = ((left + size * 0.35, top), (left + size * 0.65, top - size * 0.36),
                (right - size * 0.6, top - size * 0.36), (right - size * 0.25, top))  # fmt: skip
        self.draw.polygon(roof, fill=dark)
        for wheel in (left + size * 0.42, right - size * 0.42):
            r = size * 0.17
            self.draw.ellipse((wheel - r, base - r, wheel + r, base + r), fill=(24, 24, 26))

    def passer_by(self) -> None:
        """Draw somebody small far behind."""
        x = float(self.rng.uniform(0, self.width))
        foot = self.horizon + self.height * self.rng.uniform(0.02, 0.12)
        tall = self.height * self.rng.uniform(0.25, 0.45)
        half = tall * 0.09
        upper, lower = self.tone(self.bright()), self.tone((54, 56, 70), 20.0)
        gap = min(1.0, half * 0.8)
        self.draw.rectangle((x - half * 0.8, foot - tall * 0.5, x - gap, foot), fill=lower)
        self.draw.rectangle((x + gap, foot - tall * 0.48, x + half * 0.8, foot), fill=lower)
        box = (x - half, foot - tall * 0.85, x + half, foot - tall * 0.45)
        self.draw.rounded_rectangle(box, half * 0.5, fill=upper)
        r = tall * 0.07
        head = (x - r, foot - tall, x + r, foot - tall + 2.3 * r)
        self.draw.ellipse(head, fill=self.tone((160, 120, 96)))

    def bush(self, x: float, y: float | int, size: float) -> None:
        """Draw a bush or a tree's crown."""
        for _ in range(7):
            dx, dy = self.rng.normal(0, size * 0.5, 2)
            r = size * self.rng.uniform(0.3, 0.6)
            box = (x + dx - r, y + dy - r, x + dx + r, y + dy + r)
            self.draw.ellipse(box, fill=self.tone((58, 92, 48), 18.0))


def _street(p: _Painter) -> None:
    p.backdrop((150, 152, 156))
    for _ in range(3):
        x = float(p.rng.uniform(-0.2, 0.9)) * p.width
        box = (x, -2, x + p.width * p.rng.uniform(0.25, 0.6), p.horizon)
        p.draw.rectangle(box, fill=p.tone((138, 126, 118), 30.0))
        for floor in range(4):
            top = p.horizon * (0.1 + 0.24 * floor)
            right = x + p.width * 0.13
            window = (min(x + 3, right), top, right, top + p.horizon * 0.12)
            p.draw.rectangle(window, fill=p.tone((70, 82, 96), 16.0))
    p.ground((112, 112, 114))
    if p.rng.random() < 0.6:
        p.car(float(p.rng.uniform(0, p.width)), p.horizon + p.height * 0.06, p.width * 0.42)
    kerb = p.horizon + int(p.height * p.rng.uniform(0.1, 0.2))
    p.draw.rectangle((0, kerb, p.width, kerb + 2), fill=p.tone((176, 174, 168)))
    slant = float(p.rng.uniform(-0.5, 0.5)) * p.width
    line = ((p.width * 0.2, kerb), (p.width * 0.2 + slant, p.height))
    p.draw.line(line, fill=p.tone((196, 194, 186)), width=3)


def _wall(p: _Painter) -> None:
    p.horizon = int(p.height * p.rng.uniform(0.62, 0.84))
    brick = p.rng.random() < 0.6
    p.backdrop((142, 96, 78) if brick else (176, 172, 164))
    row = max(4, p.height // 30) if brick else max(14, p.height // 8)
    seam = p.tone((118, 104, 96) if brick else (140, 138, 134), 8.0)
    for number, y in enumerate(range(0, p.horizon, row)):
        p.draw.line((0, y, p.width, y), fill=seam)
        step = row * 2
        for x in range((number % 2) * row, p.width, step):
            p.draw.line((x, y, x, y + row), fill=seam)
    if p.rng.random() < 0.5:
        x, y = p.rng.uniform(0, 0.8) * p.width, p.rng.uniform(0.08, 0.4) * p.height
        p.draw.rectangle((x, y, x + p.width * 0.3, y + p.height * 0.1), fill=p.bright())
    p.ground((128, 126, 122))


def _shop(p: _Painter) -> None:
    p.horizon = int(p.height * p.rng.uniform(0.58, 0.8))
    p.backdrop((96, 92, 92))
    p.draw.rectangle((0, 0, p.width, p.height * 0.1), fill=p.bright())
    for _ in range(14):
        x, y = p.rng.uniform(0, 1) * p.width, p.rng.uniform(0.12, 0.75) * p.horizon
        w, h = p.rng.uniform(0.05, 0.2) * p.width, p.rng.uniform(0.03, 0.1) * p.height
        p.draw.rectangle((x, y, x + w, y + h), fill=p.bright())
    for x in (p.rng.uniform(0, 0.4), p.rng.uniform(0.6, 1.0)):
        frame = (x * p.width, 0, x * p.width + 3, p.horizon)
        p.draw.rectangle(frame, fill=p.tone((200, 198, 194)))
    sill = (0, p.horizon * 0.88, p.width, p.horizon)
    p.draw.rectangle(sill, fill=p.tone((84, 76, 70)))
    p.ground((158, 150, 142))


def _grass(p: _Painter) -> None:
    p.backdrop((120, 140, 112))
    for _ in range(4):
        p.bush(p.rng.uniform(0, 1) * p.width, p.rng.uniform(0.1, 1) * p.horizon, p.width * 0.3)
    p.ground((94, 126, 66))
    near, far = p.rng.uniform(0.0, 0.5), p.rng.uniform(0.3, 0.6)
    path = (
        (p.width * far, p.horizon), (p.width * (far + 0.18), p.horizon),
        (p.width * (near + 0.8), p.height), (p.width * near - p.width * 0.2, p.height),
    )  # fmt: skip
    p.draw.polygon(path, fill=p.tone((176, 166, 146)))


def _plaza(p: _Painter) -> None:
    p.horizon = int(p.height * p.rng.uniform(0.12, 0.35))
    p.backdrop((168, 170, 172))
    p.ground((172, 166, 156))
    seam = p.tone((146, 140, 132), 6.0)
    y, gap = float(p.horizon), p.height * 0.03
    while y < p.height:
        p.draw.line((0, y, p.width, y), fill=seam)
        y += gap
        gap *= 1.25
    middle = p.width * p.rng.uniform(0.2, 0.8)
    for k in range(-6, 7):
        end = middle + k * p.width * 0.45
        p.draw.line((middle + k * p.width * 0.12, p.horizon, end, p.height), fill=seam)
    if p.rng.random() < 0.5:
        p.bush(p.rng.uniform(0, 1) * p.width, p.horizon, p.width * 0.25)


def _parking(p: _Painter) -> None:
    p.backdrop((150, 158, 160))
    p.bush(p.rng.uniform(0, 1) * p.width, p.horizon * 0.5, p.width * 0.35)
    p.ground((104, 104, 108))
    for _ in range(3):
        base = p.horizon + p.height * p.rng.uniform(0.0, 0.22)
        p.car(p.rng.uniform(-0.1, 1.1) * p.width, base, p.width * p.rng.uniform(0.35, 0.6))
    for k in range(3):
        x = p.width * (0.1 + 0.4 * k)
        p.draw.line((x, p.height * 0.85, x - 12, p.height), fill=p.tone((206, 204, 190)), width=3)


def _hall(p: _Painter) -> None:
    p.horizon = int(p.height * p.rng.uniform(0.3, 0.5))
    p.backdrop((196, 192, 182))
    for k in range(3):
        x = p.width * (p.rng.uniform(0, 0.25) + 0.36 * k)
        door = (x, p.horizon * 0.25, x + p.width * 0.2, p.horizon)
        p.draw.rectangle(door, fill=p.tone((122, 100, 82), 22.0))
    p.ground((186, 180, 170))
    for _ in range(3):
        x = p.rng.uniform(0, 1) * p.width
        glare = (x, p.horizon, x + p.width * 0.12, p.height)
        p.draw.rectangle(glare, fill=p.tone((210, 206, 198), 6.0))


_PAINTERS: dict[str, Callable[[_Painter], None]] = {
    "street": _street,
    "wall": _wall,
    "shop": _shop,
    "grass": _grass,
    "plaza": _plaza,
    "parking": _parking,
    "hall": _hall,
}
