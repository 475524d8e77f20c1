"""Images of any source, each decoded once into a memory-mapped uint8 store at the encoder's resolution.

A store is named by the content of its images and by the preprocessing, so that runs share it and a changed file makes a
new one. Beside it lie the originals that adapt asked for, larger than the encoder's input: random crops of a photograph
need the pixels that resizing and the central crop have taken away.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from gta.encoders.decode import UNREADABLE, decode
from gta.encoders.image_encoder import ImageEncoder
from gta.files import closed_to, replacing, sha256, write_atomically


class UnreadableImages(ValueError):
    """Images that could not be decoded; the message lists them all."""


@dataclass(frozen=True)
class Images:
    """pixels: uint8 (N, 3, H, W) as the encoder reads them, memory-mapped; original: from a row to its image, uncropped and up to twice as
    large, or whole, uint8 (3, h, w), for augmentation; sha256: of what they were made from, in order; skipped: {number among the
    images given: reason} of those that could not be read and have no row."""

    pixels: Tensor
    original: Callable[[int], Tensor]
    sha256: str
    skipped: dict[int, str]

    def __len__(self) -> int:
        return len(self.pixels)

    def key(self, row: int) -> bytes:
        """A hash of an image's content, whatever its place and name."""
        return hashlib.sha256(self.pixels[row].numpy().tobytes()).digest()

    @classmethod
    def of_pixels(cls, pixels: Tensor) -> "Images":
        """From uint8 (N, 3, H, W), as the encoder reads them; the rows are their own originals."""
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] != 3:
            raise ValueError(f"pixels must be uint8 (N, 3, H, W), not {pixels.dtype} {tuple(pixels.shape)}")
        return cls(pixels, pixels.__getitem__, _hash(repr(pixels.shape).encode(), pixels.numpy().tobytes()), {})


def as_images(images: "Images | Sequence | Tensor", encoder: ImageEncoder, progress: bool = True) -> "Images":
    """`Images` from `Images`, from uint8 pixels (N, 3, H, W), or from what `load_images` reads."""
    if isinstance(images, Images):
        return images
    return Images.of_pixels(images) if isinstance(images, Tensor) else load_images(images, encoder, progress=progress)


def load_images(
    images: Sequence,
    encoder: ImageEncoder,
    *,
    store: Path | str | None = None,
    skip_bad: bool = False,
    whole: bool = False,
    progress: bool = True,
) -> Images:
    """Decode, orient, resize and crop as the encoder's own preprocessing does.

    images: paths, PIL images, or uint8 arrays or tensors, (H, W) or (H, W, 3), in any mixture. Of an animation the first
    frame is taken, 16 bits become 8, by the range of the data where that is 8 or 12 bits, what is transparent becomes white.
    store: a folder that keeps the pixels for later runs; None keeps them in temporary files while the result is in use.
    skip_bad: leave out what cannot be read, and say so in `skipped`. whole: originals are as large as the images are.
    Raises UnreadableImages, once, naming every image that cannot be read; OSError where the disk has too little room.
    """
    if len(images) == 0:
        raise ValueError("images: at least one image is needed")
    temporary = tempfile.TemporaryDirectory(prefix="gta-images-") if store is None else None
    folder = Path(temporary.name if temporary else store)  # type: ignore[arg-type]
    elsewhere = "set TMPDIR to another folder" if temporary else "choose another store (`store`; of `gta label`, `--out`)"
    digests = list(_by_threads(_digest, images, "reading", progress))
    key = _hash(encoder.preprocessing.encode(), PIL.__version__.encode(), *(digest.encode() for digest in digests))
    rows, facts = folder / f"{key[:16]}.npy", folder / f"{key[:16]}.json"
    if (closed := closed_to(folder)) is not None:
        raise OSError(f"store {str(folder)!r}: nothing can be written in {closed}; {elsewhere}")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{key[:16]}.lock"), warnings.catch_warnings():  # of two runs that need the same store, one makes it
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large is fine; what is too large is an error
        if not _holds(rows, facts):
            try:
                _fill(rows, facts, images, encoder, progress)
            except OSError as error:
                raise OSError(f"store {str(folder)!r} cannot be written: {error}; {elsewhere}") from error
        found = json.loads(facts.read_text(encoding="utf-8"))
    skipped, narrow = ({int(i): what for i, what in found[name].items()} for name in ("skipped", "narrow"))
    if skipped and (not skip_bad or len(skipped) == len(images)):
        lines = [f"  {_name(images[i], i)}: {reason}" for i, reason in skipped.items()]
        raise UnreadableImages(f"{len(skipped)} of {len(images)} images cannot be read; repair or leave out\n" + "\n".join(lines))
    for bits in sorted(set(narrow.values())):
        of = [_name(images[i], i) for i in sorted(narrow) if narrow[i] == bits]
        most = f"no value above {2**bits - 1:,}, so that this is taken as white"
        print(f"{len(of):,} images with 16 bits a channel hold {most}: {of[0]}{', ...' if of[1:] else ''}", file=sys.stderr)
    kept = [i for i in range(len(images)) if i not in skipped]
    size = None if whole else encoder.image_size

    def original(row: int, _temporary=temporary) -> Tensor:  # a temporary folder lives as long as somebody may ask
        file = folder / "originals" / f"{digests[kept[row]]}-{size or 'whole'}{narrow.get(kept[row], '')}.npy"
        if not file.exists():
            with replacing(file) as part, open(part, "wb") as stream:
                np.save(stream, _original(decode(images[kept[row]])[0], size))
        return torch.from_numpy(np.load(file))

    return Images(torch.from_numpy(np.load(rows, mmap_mode="c")), original, key, skipped)


def _holds(rows: Path, facts: Path) -> bool:
    """Whether the store is there and still what was written."""
    if not (rows.exists() and facts.exists()):
        return False
    found = json.loads(facts.read_text(encoding="utf-8"))
    if "narrow" not in found:  # of a version that took all 16-bit images as 16 bits of data
        return False
    if found["sha256"] == sha256(rows):
        return True
    print(f"{rows}: not the bytes that were written; the images are decoded again", file=sys.stderr)
    return False


def _fill(rows: Path, facts: Path, images: Sequence, encoder: ImageEncoder, progress: bool) -> None:
    shape = (len(images), *encoder.store(Image.new("RGB", (8, 8))).shape)
    needed, free = int(np.prod(shape)), shutil.disk_usage(rows.parent).free
    if needed > free:
        raise OSError(f"the images need {needed / 1e9:.2f} GB and {free / 1e9:.2f} GB are free")
    if progress and needed > 1e8:
        print(f"image store: {len(images):,} images at {shape[2]} x {shape[3]}, {needed / 1e9:.2f} GB in {rows.parent}", file=sys.stderr)
    part = rows.with_name(f".{rows.name}.part")  # one name, under the lock: a killed run leaves one file, and it is overwritten
    pixels = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a killed process at some later page
        with open(part, "r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, part.stat().st_size)

    narrow: dict[int, int] = {}

    def read(i: int) -> str | None:
        try:
            picture, bits = decode(images[i])
            pixels[i] = encoder.store(picture)
            narrow.update({} if bits is None else {i: bits})
        except UNREADABLE as error:
            return str(error) or type(error).__name__
        return None

    reasons = _by_threads(read, range(len(images)), "decoding", progress)
    skipped = {i: reason for i, reason in enumerate(reasons) if reason is not None}
    if skipped and len(skipped) < len(images):  # close the gaps, a row at a time
        kept = [i for i in range(len(images)) if i not in skipped]
        whole, pixels = pixels, np.lib.format.open_memmap(f"{part}.kept", mode="w+", dtype=np.uint8, shape=(len(kept), *shape[1:]))
        for row, i in enumerate(kept):
            pixels[row] = whole[i]
        os.replace(f"{part}.kept", part)
    pixels.flush()
    os.replace(part, rows)
    write_atomically(facts, json.dumps({"sha256": sha256(rows), "skipped": skipped, "narrow": narrow}))


def _original(image: Image.Image, size: int | None) -> np.ndarray:
    """uint8 (3, h, w), whose shorter side is one to two times the encoder's `size`; None: as it is."""
    scale = min(max(min(image.size), size), 2 * size) / min(image.size) if size else 1
    if scale != 1:
        image = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
    return np.asarray(image).transpose(2, 0, 1).copy()


def _digest(image: Any) -> str:
    """A hash of an image as it was given; of its name if it cannot be opened, which decoding will report."""
    if isinstance(image, (str, PathLike)):
        try:
            return sha256(Path(image))
        except OSError:
            return _hash(b"missing", os.fsencode(image))
    if isinstance(image, Image.Image):
        return _hash(f"{image.mode} {image.size} {image.getexif()}".encode(), image.tobytes())
    array = np.ascontiguousarray(image)
    return _hash(f"{array.dtype} {array.shape}".encode(), array.tobytes())


def _hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _name(image: Any, i: int) -> str:
    return str(image) if isinstance(image, (str, PathLike)) else f"images[{i}]"


def _by_threads(function: Callable, items: Sequence, what: str, progress: bool) -> Iterator:
    """Results in order, a block at a time: what waits in a queue needs memory too."""
    with ThreadPoolExecutor() as threads, tqdm(total=len(items), desc=what, unit="image", delay=5, disable=not progress) as bar:
        for start in range(0, len(items), 1024):
            for result in threads.map(function, items[start : start + 1024]):
                bar.update()
                yield result
