"""Images of any source, decoded once into one uint8 store at the encoder's resolution."""

from collections.abc import Sequence
from os import PathLike

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from gta.encoders import Encoder


class UnreadableImages(ValueError):
    """Images that could not be decoded; the message lists them all."""


def load_images(images: Sequence, encoder: Encoder) -> Tensor:
    """Decode, orient, resize and crop as the encoder's own preprocessing does: uint8 (N, 3, H, W) on the CPU.

    images: paths, PIL images, or uint8 arrays or tensors, (H, W) or (H, W, 3), in any mixture.
    Raises UnreadableImages, once, naming every image that cannot be read.
    """
    if len(images) == 0:
        raise ValueError("images: at least one image is needed")
    store: Tensor | None = None
    bad = []
    for i, image in enumerate(images):
        try:
            pixels = encoder.store(_decode(image))
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
            bad.append(f"  {image if isinstance(image, (str, PathLike)) else f'images[{i}]'}: {error}")
            continue
        if store is None:
            store = torch.empty(len(images), *pixels.shape, dtype=torch.uint8)
        store[i] = pixels
    if bad or store is None:
        raise UnreadableImages(f"{len(bad)} of {len(images)} images cannot be read; repair or leave out\n" + "\n".join(bad))
    return store


def _decode(image) -> Image.Image:
    if isinstance(image, (str, PathLike)):
        with Image.open(image) as file:
            return ImageOps.exif_transpose(file).convert("RGB")
    if isinstance(image, Image.Image):
        return ImageOps.exif_transpose(image).convert("RGB")
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(f"an image array must be uint8 of shape (H, W) or (H, W, 3), not {array.dtype} {array.shape}")
    return Image.fromarray(array).convert("RGB")
