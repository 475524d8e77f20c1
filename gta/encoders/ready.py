"""Features of images that somebody has made already, by any encoder: a file of rows, and beside it the names of the images, one a line."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gta.files import load_tensors

SUFFIXES = (".safetensors", ".npy")
TENSOR = "features"  # of the safetensors file
SHOWN = 5  # images that an error names


@dataclass(frozen=True)
class ReadyFeatures:
    """features: unit rows (N, d) in float32, or in float64 where the file holds that; rows: the row of each image, by its name; source:
    the file; weights_sha256: of the file and the names beside it."""

    name: str
    source: str
    features: Tensor
    rows: dict[str, int]
    weights_sha256: str

    def of(self, names: Sequence[str]) -> Tensor:
        """The features (len(names), d) of images by their names. Raises ValueError, with the names, for images that have none."""
        missing = [name for name in names if name not in self.rows]
        if missing:
            told = ", ".join(map(repr, missing[:SHOWN])) + (f" and {len(missing) - SHOWN:,} more" if len(missing) > SHOWN else "")
            how = f"{names_file(Path(self.source)).name} names images as the results do; its first is {next(iter(self.rows))!r}"
            raise ValueError(f"{self.source}: no features of {len(missing):,} of {len(names):,} images: {told}. {how}")
        return self.features[[self.rows[name] for name in names]]


def names_file(file: Path) -> Path:
    """The text file with the names of the images, one a line in the order of the rows."""
    return file.with_suffix(".txt")


def check(file: Path) -> None:
    """Raise ValueError, with the file and the mend, where it is no file of features with its names."""
    if file.suffix not in SUFFIXES:
        raise ValueError(f"{file}: features are read from {' or '.join(SUFFIXES)}, not from {file.suffix or 'a file without a suffix'!r}")
    names = names_file(file)
    for needed in (file, names):
        if not needed.is_file():
            raise ValueError(f"{needed}: no such file; a row of {file.name} is the image that the same line of {names.name} names")


def read(file: Path, name: str) -> ReadyFeatures:
    """The features in a file. Raises ValueError, with the file and the image, for anything but a finite row, not all zero, of each name."""
    check(file)
    features, names = _tensor(file), _names(names_file(file))
    if features.ndim != 2 or not features.dtype.is_floating_point:
        raise ValueError(f"{file}: features are floats (N, d), a row for each image, not {features.dtype} {tuple(features.shape)}")
    if len(features) != len(names) or not names:
        raise ValueError(f"{file}: {len(features):,} rows for the {len(names):,} names in {names_file(file).name}; each row needs one name")
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    for wrong, what in ((~features.isfinite().all(1), "is not finite"), (features.norm(dim=1) == 0, "is all zero")):
        if wrong.any():
            row = int(wrong.nonzero()[0])
            raise ValueError(f"{file}: row {row}, of {names[row]!r}, {what} ({int(wrong.sum()):,} such rows); encode these images again")
    digest = hashlib.sha256(features.numpy().tobytes())
    digest.update("\n".join(names).encode())
    rows = {of: row for row, of in enumerate(names)}
    return ReadyFeatures(name, str(file), F.normalize(features, dim=1), rows, digest.hexdigest())


def _tensor(file: Path) -> Tensor:
    if file.suffix == ".safetensors":
        held = load_tensors(file)
        if TENSOR not in held:
            raise ValueError(f"{file}: no tensor {TENSOR!r} in it; it holds {', '.join(sorted(held)) or 'nothing'}")
        return held[TENSOR].contiguous()
    try:
        return torch.from_numpy(np.load(file, allow_pickle=False))
    except (ValueError, EOFError, TypeError) as error:
        raise ValueError(f"{file}: damaged, or no array of numbers: {error}") from None


def _names(file: Path) -> list[str]:
    try:
        names = [line for line in file.read_text(encoding="utf-8-sig").split("\n") if line]
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    first: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if first.setdefault(name, number) != number:
            raise ValueError(f"{file}: lines {first[name]} and {number} are both {name!r}; an image has one row")
    return names
