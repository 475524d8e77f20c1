"""Draw birds from ten attributes, with Pillow and with integers only: the same numbers give the same pixels on any machine.

A bird has a value for each of `ATTRIBUTES`. A picture adds random changes that are no attributes: pose, scale, light, noise, a leaf in
front. `STYLES` says how strong they are. Encoders are pretrained with the style `studio` and tested with `field`, whose birds are darker,
tinted, smaller, noisier and more often hidden. In `field` a species also has its own `Look`: shades and proportions.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

SIDE = 64  # pixels of a picture
FINE = 4  # each pixel is the mean of FINE x FINE drawn pixels

COLORS = {
    "red": (205, 45, 40),
    "blue": (45, 85, 205),
    "yellow": (235, 205, 50),
    "green": (50, 150, 60),
    "brown": (125, 80, 45),
    "black": (30, 30, 35),
    "white": (238, 238, 232),
}
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "body": tuple(f"a {color} body" for color in COLORS),
    "wings": tuple(f"{color} wings" for color in COLORS),
    "belly": tuple(f"a {color} belly" for color in COLORS),
    "pattern": ("plain feathers", "bars across the feathers", "spots on the feathers"),
    "bill": ("a short thick bill", "a long straight bill", "a hooked bill", "a long curved bill"),
    "tail": ("a short tail", "a long tail", "a forked tail", "a fan tail"),
    "crest": ("a smooth head", "a pointed crest", "a long plume"),
    "eye": ("a plain eye", "a white eye ring", "an orange eye ring"),
    "legs": ("yellow legs", "pink legs", "black legs"),
    "habitat": ("water around it", "sand around it", "grass around it", "snow around it", "trees around it"),
}
SIZES = np.array([len(values) for values in ATTRIBUTES.values()])

# Outlines of a bird that looks to the right, in quarters of a pixel, relative to the middle of the body.
_BILLS = (
    ((78, -58), (106, -38), (78, -18)),
    ((82, -46), (146, -40), (146, -36), (82, -30)),
    ((80, -52), (116, -48), (122, -6), (106, -28), (80, -26)),
    ((82, -46), (112, -46), (138, -6), (132, -4), (108, -30), (82, -30)),
)
_TAILS = (
    ((-46, -12), (-80, -6), (-80, 14), (-46, 18)),
    ((-46, -8), (-126, -4), (-126, 10), (-46, 14)),
    ((-46, -12), (-116, -48), (-70, 4), (-116, 54), (-46, 18)),
    ((-46, -8), (-90, -54), (-108, 4), (-90, 60), (-46, 14)),
)
_CRESTS = ((), ((38, -58), (34, -102), (70, -60)), ((52, -58), (-2, -92), (-10, -80), (40, -44)))
_RINGS = (None, (245, 245, 240), (250, 140, 20))
_LEGS = ((235, 190, 40), (235, 130, 150), (25, 25, 25))
_GROUND = ((90, 140, 190), (215, 190, 130), (120, 170, 80), (228, 232, 238), (55, 85, 55))
_SKY = ((175, 205, 230), (190, 215, 235), (185, 210, 215), (190, 200, 215), (85, 120, 85))
_CIRCLE = tuple((round(1024 * math.cos(math.pi * k / 12)), round(1024 * math.sin(math.pi * k / 12))) for k in range(24))

Points = list[tuple[int, int]]
Color = tuple[int, int, int]


@dataclass(frozen=True)
class Style:
    """Ranges of the random changes of a picture: scale, turn and light in 256ths, lengths in quarter pixels, colour levels of 255."""

    scale: tuple[int, int]
    turn: int
    shift: int
    light: tuple[int, int]
    tint: int
    shade: int  # of each colour, in each picture
    noise: int
    hidden: int  # percent of pictures with a leaf in front of the bird
    own: int = 0  # the largest difference of a species' shades to the palette; if not 0, its proportions vary by an eighth


STYLES = {
    "studio": Style((180, 255), 44, 20, (205, 280), 10, 14, 12, 25),
    "field": Style((170, 245), 56, 24, (170, 270), 18, 14, 18, 40, own=18),
}


@dataclass(frozen=True)
class Look:
    """The look of a species besides its attributes. shades: offsets of body, wings and belly, (3, 3); build: width, height in 256ths."""

    shades: np.ndarray
    build: tuple[int, int] = (256, 256)


def draw_look(style: Style, rng: Generator) -> Look:
    """Draw the look of one species in a style."""
    shades = rng.integers(-style.own, style.own + 1, (3, 3))
    width, height = rng.integers(-32, 33, 2).tolist() if style.own else (0, 0)
    return Look(shades, (256 + width, 256 + height))


def draw(bird: np.ndarray, style: Style, look: Look, rng: Generator) -> np.ndarray:
    """Draw one picture, uint8 (SIDE, SIDE, 3). bird: (10,), an index into the values of each of `ATTRIBUTES`."""
    body, wings, belly, pattern, bill, tail, crest, eye, legs, habitat = bird.tolist()
    image = Image.new("RGB", (SIDE * FINE, SIDE * FINE))
    pen = ImageDraw.Draw(image)
    _draw_habitat(pen, habitat, rng)
    pose = _Pose(style, look.build, rng)
    palette = np.array(list(COLORS.values()))
    offsets = look.shades + rng.integers(-style.shade, style.shade + 1, (3, 3))
    plumage = np.clip(palette[[body, wings, belly]] + offsets, 0, 255).tolist()
    of_body, of_wings, of_belly = (tuple(color) for color in plumage)

    for x in (-8, 16):
        _fill(pen, pose([(x - 5, 34), (x + 5, 34), (x + 3, 86), (x + 22, 94), (x - 5, 94)]), _LEGS[legs])
    _fill(pen, pose(_TAILS[tail]), of_wings)
    _fill(pen, pose(_ellipse(0, 0, 64, 42)), of_body)
    _fill(pen, pose(_ellipse(8, 19, 46, 22)), of_belly)
    if _CRESTS[crest]:
        _fill(pen, pose(_CRESTS[crest]), of_body)
    _fill(pen, pose(_ellipse(58, -38, 29, 28)), of_body)
    _fill(pen, pose(_BILLS[bill]), (225, 150, 50))
    _fill(pen, pose(_ellipse(-16, -10, 42, 22)), of_wings)
    marks: Color = (25, 25, 30) if sum(of_wings) > 380 else (240, 240, 235)
    if pattern == 1:
        for x in (-44, -22, 0):
            _fill(pen, pose([(x - 5, -28), (x + 4, -28), (x + 12, 10), (x + 3, 10)]), marks)
    if pattern == 2:
        for x, y in ((-44, -10), (-30, -22), (-26, 2), (-12, -14), (2, 2), (8, -18)):
            _fill(pen, pose(_ellipse(x, y, 5, 5)), marks)
    if _RINGS[eye] is not None:
        _fill(pen, pose(_ellipse(64, -42, 15, 15)), _RINGS[eye])
    _fill(pen, pose(_ellipse(64, -42, 7, 7)), (10, 10, 10))

    if rng.integers(100) < style.hidden:
        x, y, length, width = rng.integers((-70, -60, 30, 10), (70, 60, 60, 20)).tolist()
        leaf = [(x - length, y), (x, y - width), (x + length, y), (x, y + width)]
        _fill(pen, pose(leaf), tuple(rng.integers((40, 80, 20), (90, 140, 60)).tolist()))
    return _expose(image, style, rng)


class _Pose:
    """A map from the coordinates of a bird to the canvas: build, scale, a small turn, left or right, shift."""

    def __init__(self, style: Style, build: tuple[int, int], rng: Generator):
        scale = int(rng.integers(*style.scale))
        self.turn = int(rng.integers(-style.turn, style.turn + 1))
        self.across, self.down = (scale * side // 256 for side in build)
        self.side = 1 - 2 * int(rng.integers(2))
        self.x, self.y = (SIDE * FINE // 2 + rng.integers(-style.shift, style.shift + 1, 2)).tolist()

    def __call__(self, points) -> Points:
        placed = []
        for x, y in points:
            x, y = x * self.across, y * self.down
            turned = (x - y * self.turn // 256) // 256, (y + x * self.turn // 256) // 256
            placed.append((self.x + self.side * turned[0], self.y + turned[1]))
        return placed


def _ellipse(x: int, y: int, across: int, down: int) -> Points:
    return [(x + across * c // 1024, y + down * s // 1024) for c, s in _CIRCLE]


def _fill(pen: ImageDraw.ImageDraw, points: Points, color) -> None:
    """Fill a polygon row by row with integer division. Pillow uses floating point, whose last bit differs between processors."""
    rows: dict[int, list[int]] = {}
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        for y in range(y0, y1):
            rows.setdefault(y, []).append(x0 + (x1 - x0) * (y - y0) // (y1 - y0))
    for y, crossings in rows.items():
        crossings.sort()
        for left, right in zip(crossings[::2], crossings[1::2], strict=True):
            pen.line((left, y, right, y), fill=color)


def _draw_habitat(pen: ImageDraw.ImageDraw, habitat: int, rng: Generator) -> None:
    side = SIDE * FINE
    horizon = int(rng.integers(80, 170))
    sky, ground = (tuple((np.array(of[habitat]) + rng.integers(-12, 13, 3)).tolist()) for of in (_SKY, _GROUND))
    pen.rectangle((0, 0, side, horizon), fill=sky)
    pen.rectangle((0, horizon, side, side), fill=ground)
    darker = tuple(level * 4 // 5 for level in ground)
    for _ in range(14):
        x, y, size = rng.integers((0, horizon, 6), (side, side, 26)).tolist()
        if habitat == 0:  # waves
            pen.rectangle((x, y, x + 2 * size, y + 3), fill=(225, 235, 245))
        elif habitat == 1:  # stones
            pen.rectangle((x, y, x + size // 3, y + size // 4), fill=darker)
        elif habitat == 2:  # blades
            pen.rectangle((x, y - size, x + 3, y + size), fill=darker)
        elif habitat == 3:  # flakes, over the sky too
            pen.rectangle((x, (y - horizon) * 2, x + 5, (y - horizon) * 2 + 5), fill=(250, 250, 250))
        elif x % 3 == 0:  # trunks
            pen.rectangle((x, 0, x + size, y), fill=(80, 60, 40))


def _expose(image: Image.Image, style: Style, rng: Generator) -> np.ndarray:
    """The mean of each FINE x FINE pixels, with random light, tint and noise."""
    fine = np.asarray(image).reshape(SIDE, FINE, SIDE, FINE, 3)
    pixels = fine.sum((1, 3), dtype=np.int64) // FINE**2
    light = rng.integers(*style.light) + rng.integers(-style.tint, style.tint + 1, 3)
    noise = rng.integers(-style.noise, style.noise + 1, pixels.shape)
    return np.clip(pixels * light // 256 + noise, 0, 255).astype(np.uint8)
