"""Augmentations of the embedded datasets, with random numbers and arithmetic in float64.

torchvision draws and resizes in float32 or in 8-bit integers, with code that differs between processors. Then some pixels differ by one
level, which can change the result of a run. In float64 the differences are too small to change a pixel.
"""

import math

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

BILINEAR = InterpolationMode.BILINEAR


class GlyphView(nn.Module):
    """Rotate and shear by at most 8 degrees, shift by at most 6 % and scale by at most 10 %. There is no flip, because it may turn one
    character into another. From uint8 (3, H, W) to the same. square: images are first resized and cropped to that side."""

    def __init__(self, square: int | None = None):
        super().__init__()
        self.square = square

    def extra_repr(self) -> str:
        return f"square={self.square}"

    def forward(self, image: Tensor) -> Tensor:
        exact = image.double()
        if self.square:
            exact = F.center_crop(F.resize(exact, [self.square], antialias=True), [self.square])
        height, width = exact.shape[-2:]
        turn, across, down, size, slant = _between(-1, 1, 5)
        shift = [round(0.06 * across * width), round(0.06 * down * height)]
        return _pixels(F.affine(exact, 8 * turn, shift, 1 + 0.1 * size, [8 * slant, 0.0], interpolation=BILINEAR))


class BirdView(nn.Module):
    """Crop at least half of the area, flip, and change brightness and contrast by at most 20 %. Hues do not change, because colours are
    attributes. From uint8 (3, h, w) to uint8 (3, size, size)."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def extra_repr(self) -> str:
        return f"size={self.size}"

    def forward(self, image: Tensor) -> Tensor:
        top, left, height, width = _crop(*image.shape[-2:])
        view = F.resized_crop(image.double(), top, left, height, width, [self.size, self.size], interpolation=BILINEAR, antialias=True)
        flip, first, light, contrast = _between(-1, 1, 4)
        if flip < 0:
            view = view.flip(-1)
        for change in ("light", "contrast") if first < 0 else ("contrast", "light"):
            middle = 0.0 if change == "light" else float(F.rgb_to_grayscale(view).mean())
            factor = 1 + 0.2 * (light if change == "light" else contrast)
            view = (middle + factor * (view - middle)).clamp(0, 255)
        return _pixels(view)


def _crop(height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of a crop of 50 to 100 % of the area, with sides in a ratio of 3:4 to 4:3."""
    for _ in range(10):
        (area,), (ratio,), (down, across) = _between(0.5, 1, 1), _between(math.log(3 / 4), math.log(4 / 3), 1), _between(0, 1, 2)
        w = round(math.sqrt(area * height * width * math.exp(ratio)))
        h = round(math.sqrt(area * height * width / math.exp(ratio)))
        if 0 < w <= width and 0 < h <= height:
            return int(down * (height - h + 1)), int(across * (width - w + 1)), h, w
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def _between(low: float, high: float, count: int) -> list[float]:
    """Uniform random numbers from torch's global generator. They are multiples of 2^-53, so they are the same on every processor."""
    return [low + (high - low) * u for u in torch.rand(count, dtype=torch.float64).tolist()]


def _pixels(image: Tensor) -> Tensor:
    return image.round().clamp(0, 255).to(torch.uint8)
