"""One image of any source as upright RGB with 8 bits a channel."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from os import PathLike
from typing import Any

import numpy as np
from PIL import Image, ImageOps, features

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # those of the suffixes alone: EPS would start Ghostscript
HEIF = (".heic", ".heif", ".hif")  # of telephones; pillow-heif reads them
AT_ONCE = 90_000_000  # pixels that are decoded by all threads together; a larger image is decoded alone
UNREADABLE = (OSError, Image.DecompressionBombError, ValueError, SyntaxError, EOFError, MemoryError)
NARROW = (8, 12)  # bits of data that are common in 16-bit files
OTHER_BYTE = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}


class Room:
    """Pixels that may be in memory at once, shared by threads."""

    def __init__(self, pixels: int):
        self._all, self._left, self._changed = pixels, pixels, threading.Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        needed = min(pixels, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= needed)
            self._left -= needed
        try:
            yield
        finally:
            with self._changed:
                self._left += needed
                self._changed.notify_all()


_room = Room(AT_ONCE)


@cache
def formats() -> tuple[str, ...]:
    """What files may hold that are read here: `FORMATS`, AVIF where Pillow was built with it, and HEIF where pillow-heif is installed."""
    found = [*FORMATS, *(["AVIF"] if features.check("avif") else [])]
    if find_spec("pillow_heif") is not None:
        import pillow_heif

        pillow_heif.register_heif_opener()
        found.append("HEIF")
    return tuple(found)


def why_unread(suffix: str) -> str:
    """Why files with the suffix of an image are not read here, with the mend, or ""."""
    if suffix in HEIF and "HEIF" not in formats():
        return "an image that pillow-heif reads: pip install 'gta-clip[heic]'"
    if suffix == ".avif" and "AVIF" not in formats():
        return "an image that Pillow 11.3 or newer reads: pip install -U pillow"
    return ""


def decode(image: Any) -> tuple[Image.Image, int | None]:
    """The image, and how many bits its values need if that is fewer than the 16 of its file: their own range is then the whole range."""
    if isinstance(image, (str, PathLike)):
        with Image.open(image, formats=formats()) as file, _room.of(file.width * file.height):
            raw = _raw_mode(file)
            picture, bits = _upright_rgb(file)
            dark = file.mode == "RGB" and raw[-3:] in OTHER_BYTE and np.asarray(picture).max() < 16
        return _of_both_bytes(image, picture) if dark else (picture, bits)
    if isinstance(image, Image.Image):
        return _upright_rgb(image)
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(f"an image array must be uint8 of shape (H, W) or (H, W, 3), not {array.dtype} {array.shape}")
    return Image.fromarray(array).convert("RGB"), None


def _upright_rgb(image: Image.Image) -> tuple[Image.Image, int | None]:
    image = ImageOps.exif_transpose(image)
    if image.mode in ("F", "I"):
        raise ValueError(f"pixels of {image.mode} (more than 16 bits) have no known range; save it with 8 or 16 bits a channel")
    if image.mode.startswith("I;16"):
        return _of_16_bits(np.asarray(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"), None
    return image.convert("RGB"), None


def _of_16_bits(values: np.ndarray) -> tuple[Image.Image, int | None]:
    most = int(values.max())
    bits = next((bits for bits in NARROW if 0 < most < 2**bits), None)
    scaled = (values.astype(np.uint32) * 255 // (2 ** (bits or 16) - 1)).astype(np.uint8)
    return Image.fromarray(scaled).convert("RGB"), bits


def _raw_mode(file: Image.Image) -> str:
    """How the file holds a pixel, such as RGB;16B."""
    tile = getattr(file, "tile", None)
    how = tile[0][3] if tile else ""
    return str(how if isinstance(how, str) else how[0] if how else "")


def _of_both_bytes(path: Any, high: Image.Image) -> tuple[Image.Image, int | None]:
    """A dark colour image of 16 bits: Pillow keeps the high byte of each value, which is nearly nothing of 12 bits."""
    with Image.open(path, formats=FORMATS) as file:
        raw = _raw_mode(file)
        other = raw[:-3] + OTHER_BYTE[raw[-3:]]
        for number, tile in enumerate(file.tile):
            how = other if isinstance(tile[3], str) else (other, *tile[3][1:])  # type: ignore[index]
            named = hasattr(tile, "_replace")  # a plain tuple in older versions of Pillow
            file.tile[number] = tile._replace(args=how) if named else (*tile[:3], how)  # type: ignore[assignment]
        low, _ = _upright_rgb(file)
    return _of_16_bits(np.asarray(high).astype(np.uint16) << 8 | np.asarray(low))
