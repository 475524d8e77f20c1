"""Tasks: images, class names and templates by dataset name. Labels are apart, for scoring alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor
from torchvision.transforms import v2

from gta.adapt import natural_augmentation
from gta.embedded import aviary, digits
from gta.embedded.glyphs import DIGITS, FACTS
from gta.encoders import BIRDS, EMBEDDED
from gta.files import ROOT
from gta.images import SUFFIXES
from gta.names import nearest

NAMES = ("digits", "aviary")
CACHE = ROOT / "runs" / "worlds"  # where rendered images are kept


@dataclass(frozen=True)
class Task:
    """What a method may see. source: what `load` was given; images: arrays or paths; template,
    sentence and nameless: a class as a text, with an attribute, and by the attribute alone; augmentation: from a pixel size to a
    transform of one uint8 image; domain: whose questions the language model is asked (`gta/prompts.yaml`); embedded: the folder
    of the encoders that `embedded` means; baseline: the method to compare with; facts: what is true of each class, where
    that is known: what the field guide is drawn from, and which no method reads."""

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
    embedded: Path = EMBEDDED
    baseline: str = "CLIP"
    facts: Mapping[str, Sequence[str]] = field(default_factory=dict)


def load(name: str, cache: Path = CACHE) -> Task:
    """The query images of a dataset: `digits`, `aviary` (or `aviary:3`, the world of another seed than 0), or a folder with one
    sub-folder of images for each class.

    cache: the folder for images that are rendered. Raises ValueError for a name that is none of these.
    """
    if name == "digits":
        query_ids, images, _ = digits.load("query")
        template, sentence = "a picture of the digit {}", "a picture of the digit {name} with {attribute}"
        nameless = "a character with {attribute}"
        names, augment = tuple(DIGITS), glyph_augmentation
        return Task(name, name, tuple(query_ids), list(images), names, template, sentence, nameless, augment, "glyphs", facts=FACTS)
    if (world := _world(name)) is not None:
        return _aviary(world, cache)
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
    if (world := _world(name)) is not None:
        return world.labels("query")
    folders = [path.parent.name for path in _folder(name)]
    return np.unique(folders, return_inverse=True)[1]


def labelled(name: str, cache: Path = CACHE) -> tuple[list, np.ndarray]:
    """Labelled images of an embedded dataset, none of them a query image, and their classes, int (S,).

    Raises ValueError for another dataset.
    """
    if name == "digits":
        return list(digits.load("train")[1]), digits.load("train")[2]
    if (world := _world(name)) is not None:
        folder = aviary.write(world, cache)
        return [folder / file for file in world.files("train")], world.labels("train")
    raise ValueError(f"dataset {name!r} has no labelled images apart{nearest(name, NAMES)}; known: {', '.join(NAMES)}")


def _world(name: str) -> aviary.World | None:
    """The world that a name means; None where it is another dataset."""
    dataset, _, seed = name.partition(":")
    if dataset != "aviary":
        return None
    if not (seed or "0").isdecimal():
        raise ValueError(f"unknown dataset {name!r}: the seed of a world is a number, such as aviary:3")
    return aviary.world(int(seed or 0))


def _aviary(world: aviary.World, cache: Path) -> Task:
    folder, files, name = aviary.write(world, cache), world.files("query"), f"aviary:{world.seed}"
    ids = tuple(f"{name}/{i:04d}" for i in range(len(files)))  # an id says no class
    return Task(
        name,
        name,
        ids,
        [folder / file for file in files],
        world.names,
        aviary.BIRD,
        aviary.SENTENCE,
        aviary.NAMELESS + " with {attribute}",
        bird_augmentation,
        "aviary",
        BIRDS,
        "CLIP+attributes",
        world.facts,
    )


def bird_augmentation(size: int) -> Callable[[Tensor], Tensor]:
    """A crop of at least half, a flip, a change of light; colours are attributes, so that no hue changes."""
    crop = v2.RandomResizedCrop(size, scale=(0.5, 1.0), interpolation=v2.InterpolationMode.BILINEAR, antialias=True)
    return v2.Compose([crop, v2.RandomHorizontalFlip(), v2.ColorJitter(0.2, 0.2)])


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
