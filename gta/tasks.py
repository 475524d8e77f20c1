"""Tasks: images, class names and templates by dataset name. Labels are apart, for scoring alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor
from torchvision.transforms import v2

from gta.adapt import natural_augmentation
from gta.embedded import digits
from gta.embedded.glyphs import DIGITS
from gta.images import SUFFIXES
from gta.names import nearest

NAMES = ("digits",)


@dataclass(frozen=True)
class Task:
    """What a method may see. source: what `load` was given; images: arrays or paths; template,
    sentence and nameless: a class as a text, with an attribute, and by the attribute alone; augmentation: from a pixel size to a
    transform of one uint8 image; domain: whose questions the language model is asked (`gta/prompts.yaml`)."""

    name: str
    source: str
    image_ids: tuple[str, ...]
    images: Sequence
    class_names: tuple[str, ...]
    template: str
    sentence: str
    nameless: str
    augmentation: Callable[[int], Callable[[Tensor], Tensor]]
    domain: str = "general"


def load(name: str) -> Task:
    """The query images of a dataset: `digits`, or a folder with one sub-folder of images for each class.

    Raises ValueError for a name that is neither.
    """
    if name == "digits":
        query_ids, images, _ = digits.load("query")
        template, sentence = "a picture of the digit {}", "a picture of the digit {name} with {attribute}"
        nameless = "a character with {attribute}"
        return Task(name, name, tuple(query_ids), list(images), tuple(DIGITS), template, sentence, nameless, glyph_augmentation, "glyphs")
    paths = _folder(name)
    classes = sorted({path.parent.name for path in paths})
    ids = tuple(str(path.relative_to(name)) for path in paths)
    names = tuple(folder.replace("_", " ") for folder in classes)
    template, sentence, nameless = "a photo of a {}.", "a photo of a {name} with {attribute}.", "a photo of something with {attribute}."
    return Task(Path(name).name, name, ids, paths, names, template, sentence, nameless, natural_augmentation)


def query_labels(name: str) -> np.ndarray:
    """The true classes, int (N,), of the images of `load(name)` in their order: `gta.results` alone asks for them."""
    if name == "digits":
        return digits.load("query")[2]
    folders = [path.parent.name for path in _folder(name)]
    return np.unique(folders, return_inverse=True)[1]


def glyph_augmentation(size: int) -> Callable[[Tensor], Tensor]:
    """A small turn, shift, stretch and slant: a flip would turn one character into another."""
    bilinear = v2.InterpolationMode.BILINEAR
    return v2.RandomAffine(degrees=8, translate=(0.06, 0.06), scale=(0.9, 1.1), shear=8, interpolation=bilinear)


def _folder(name: str) -> list[Path]:
    paths = sorted(path for path in Path(name).glob("*/*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        known = f"known: {', '.join(NAMES)}, or a folder with a sub-folder of images for each class"
        raise ValueError(f"unknown dataset {name!r}{nearest(name, NAMES)}; {known}")
    return paths
