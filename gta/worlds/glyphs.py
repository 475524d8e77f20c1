"""Render characters from matplotlib's fonts with random warps: the training images of the embedded encoders.

No real handwriting is used. `STYLES` has three kinds of glyphs. `train` is for training. `held_out` has fonts that are not in training,
slanted and with stronger warps; the encoders are evaluated on it. `hand` is synthetic handwriting: the same fonts, with warps that are
constant for one imagined writer (a hand); settings are chosen on it. Like real handwriting, a hand differs much from print, but its
examples of one character are similar to each other.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import torch
import yaml
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

CANVAS = 48  # side in pixels of the canvas on which a glyph is drawn and warped
SCAN = 8  # side in pixels of the final image: the resolution of the UCI digits

SHAPES = yaml.safe_load((Path(__file__).parent / "shapes.yaml").read_text(encoding="utf-8"))
KIND = {name: kind for kind, names in SHAPES.items() for name in names}
FACTS = {name: facts for names in SHAPES.values() for name, facts in names.items()}
NAMES = list(FACTS)
DIGITS = list(SHAPES["digit"])

_DEJAVU = [f"DejaVu{face}{style}" for face in ("Sans", "SansMono") for style in ("", "-Bold", "-Oblique", "-BoldOblique")]
_DEJAVU += [f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")]


@dataclass(frozen=True)
class Style:
    """Fonts, the constant slant of all glyphs (`lean`), and the strength of each random change; lengths in half canvas widths."""

    fonts: tuple[str, ...]
    lean: float
    rotation: float
    shear: float
    stretch: float
    warp: float
    habits: float = 0.0  # strength of the constant warps of a hand: one for all characters, and some for each character


HELD_OUT = ("cmss10", "cmtt10", "cmti10", "STIXGeneralItalic")
ALLOGRAPHS = 3  # the number of ways in which a hand writes one character


STYLES = {
    "train": Style((*_DEJAVU, "STIXGeneral", "STIXGeneralBol", "STIXGeneralBolIta", "cmr10", "cmb10", "cmmi10"), 0.0, 0.25, 0.3, 0.2, 0.12),
    "held_out": Style(HELD_OUT, 0.35, 0.25, 0.3, 0.25, 0.14),
    "hand": Style(HELD_OUT, 0.2, 0.05, 0.05, 0.05, 0.03, habits=0.12),
}


@cache
def _atlas(style: str) -> Tensor:
    """Every character of every font of a style, (fonts, characters, CANVAS, CANVAS) in [0, 1], each scaled to fit the canvas."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = [ImageFont.truetype(folder / f"{font}.ttf", 4 * CANVAS) for font in STYLES[style].fonts]
    return torch.stack([torch.stack([_draw(font, _symbol(name)) for name in NAMES]) for font in fonts])


def _symbol(name: str) -> str:
    return str(DIGITS.index(name)) if name in DIGITS else name


def _draw(font: ImageFont.FreeTypeFont, symbol: str) -> Tensor:
    page = Image.new("L", (8 * CANVAS, 8 * CANVAS))
    ImageDraw.Draw(page).text((2 * CANVAS, 2 * CANVAS), symbol, font=font, fill=255)
    glyph = page.crop(page.getbbox())
    size = 0.9 * CANVAS / max(glyph.size)
    glyph = glyph.resize([max(1, round(size * side)) for side in glyph.size], Image.Resampling.LANCZOS)
    canvas = Image.new("L", (CANVAS, CANVAS))
    canvas.paste(glyph, ((CANVAS - glyph.width) // 2, (CANVAS - glyph.height) // 2))
    return torch.tensor(list(canvas.tobytes()), dtype=torch.float32).view(CANVAS, CANVAS) / 255


def render(characters: Tensor, style: str, generator: torch.Generator, hand: int = 0) -> Tensor:
    """Draw one image for each entry of `characters` (B,), indices into `NAMES`: uint8 (B, 3, SCAN, SCAN), light on dark.

    hand: the seed of the constant warps of the style `hand`. The steps: a random font; rotation, shear, stretch and shift; a smooth
    random displacement; a thinner or thicker stroke; a box average down to `SCAN` pixels, like a coarse scanner; contrast and noise.
    """
    atlas, s = _atlas(style), STYLES[style]
    n = len(characters)

    def uniform(low, high, *shape):
        return torch.empty(n, *shape).uniform_(low, high, generator=generator)

    glyphs = atlas[torch.randint(len(atlas), (n,), generator=generator), characters]
    angle, shear = uniform(-s.rotation, s.rotation), s.lean + uniform(-s.shear, s.shear)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(n, 2, 2)
    slant = torch.eye(2).repeat(n, 1, 1)
    slant[:, 0, 1] = shear
    scale = torch.diag_embed(uniform(1 - s.stretch, 1 + s.stretch, 2))
    grid = F.affine_grid(torch.cat([turn @ slant @ scale, uniform(-0.1, 0.1, 2, 1)], 2), [n, 1, CANVAS, CANVAS], align_corners=False)
    coarse = torch.randn(n, 2, 5, 5, generator=generator) * s.warp
    if s.habits:
        drawn = torch.Generator().manual_seed(hand)
        everywhere, ways = torch.randn(2, 5, 5, generator=drawn), torch.randn(len(NAMES), ALLOGRAPHS, 2, 5, 5, generator=drawn)
        coarse += s.habits * (everywhere + ways[characters, torch.randint(ALLOGRAPHS, (n,), generator=generator)])
    warp = F.interpolate(coarse, size=(CANVAS, CANVAS), mode="bicubic", align_corners=True)
    image = F.grid_sample(glyphs[:, None], grid + warp.permute(0, 2, 3, 1), align_corners=False)
    # A blur and then a steep threshold at a random level is a fast dilation (low level) or erosion (high level) of the stroke.
    blurred = F.avg_pool2d(F.avg_pool2d(image, 5, 1, 2), 5, 1, 2)
    blurred = blurred / blurred.amax((2, 3), keepdim=True).clamp_min(1e-6)
    image = torch.sigmoid((blurred - uniform(0.15, 0.55, 1, 1, 1)) * 14)
    image = F.avg_pool2d(image, CANVAS // SCAN)
    image = image / image.amax((2, 3), keepdim=True) * uniform(0.8, 1.0, 1, 1, 1)
    image = image + uniform(0, 0.05, 1, 1, 1) * torch.randn(image.shape, generator=generator)
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).expand(n, 3, SCAN, SCAN).contiguous()
