"""Tasks: the images, class names and templates of a dataset, by its name. A task holds no labels; they are only for scoring.

`NAME#PART` is a part of a dataset, such as `digits#base` or `digits#small-100-0`; `gta.data.parts` lists the parts.
"""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gta.adapt import natural_augmentation
from gta.data import copies, folders, lock, manifests, parts, short_texts, shots
from gta.data.splits import Entry
from gta.files import ROOT
from gta.names import nearest, printable
from gta.worlds import aviary, digits
from gta.worlds.glyphs import DIGITS, FACTS
from gta.worlds.views import BirdView, GlyphView

NAMES = ("digits", "aviary")
HALVES = parts.HALVES
CACHE = ROOT / (os.environ.get("GTA_WORLDS") or "runs/worlds")  # where rendered images are kept


@dataclass(frozen=True)
class Task:
    """Everything of a dataset that a method may see.

    source: the name for which `load` returns this task; images: arrays, paths or lazy images; template, sentence, nameless: texts of
    a class with its name, with its name and an attribute, and with the attribute alone; augmentation: from a pixel size to a transform
    of one uint8 image; domain: selects the questions to the language model (`gta/llm/prompts.yaml`); split: the split of the images;
    embedded: the folder of the encoders that `embedded` means; baseline: the method to compare with; facts: true facts about each
    class, if known; the field guide is drawn from them, and no method reads them. batches: as in `gta.data.parts.Part`.
    """

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
    split: str = "query"
    embedded: Path = digits.ENCODERS
    baseline: str = "CLIP"
    facts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    batches: tuple[int, ...] = ()


@dataclass(frozen=True)
class Labelled:
    """Images whose classes a method may see: ids, images, and labels, int (n,). None of them is a query image."""

    ids: tuple[str, ...]
    images: Sequence
    labels: np.ndarray


def load(name: str, root: str | Path | None = None, cache: Path = CACHE) -> Task:
    """The task of the query images of a dataset, or of a part of it.

    name: `digits`, `aviary` (the world of seed 0; `aviary:3` is that of seed 3), a dataset of the paper, or a folder with one
    sub-folder of images for each class. root: the folder of the paper's datasets, by default `data` in the repository; `NAME@ROOT`
    says the same in one string. cache: the folder for rendered images. Raises ValueError for an unknown name or a copy that is not
    the paper's, and FileNotFoundError, with the command that helps, if images are missing.
    """
    whole, part = parts.split(name)
    if part:
        return _part_task(load(whole, root, cache), part)
    if found := _of_the_paper(name, root):
        return _paper_task(*found)
    if name == "digits":
        query_ids, images, _ = digits.load("query")
        template, sentence = "a picture of the digit {}", "a picture of the digit {name} with {attribute}"
        nameless = "a character with {attribute}"
        names, augment = tuple(DIGITS), glyph_view
        return Task(name, name, tuple(query_ids), list(images), names, template, sentence, nameless, augment, "glyphs", facts=FACTS)
    if (world := _world(name)) is not None:
        return _aviary(world, cache)
    paths, of = _folder(name, tell=True)
    ids = tuple(printable(path.relative_to(name)) for path in paths)
    names = tuple(map(folders.class_name, sorted(set(of))))
    template, sentence, nameless = "a photo of a {}.", "a photo of a {name} with {attribute}.", "a photo of something with {attribute}."
    return Task(Path(name).name, name, ids, paths, names, template, sentence, nameless, natural_augmentation)


def query_labels(name: str) -> np.ndarray:
    """The true classes, int (N,), of the images of `load(name)` in their order. Only `gta.scores.results` calls this.

    -1 for an image whose class is not among the names of a part: no label is correct for it.
    """
    if name.startswith(short_texts.PREFIX):
        return short_texts.labels(name)
    whole, part = parts.split(name)
    labels = _query_classes(whole)
    if not part:
        return labels
    cut = parts.cut(part, labels, len(load(whole).class_names))
    return cut.labels(labels[cut.rows])


def _query_classes(name: str) -> np.ndarray:
    """The true classes of a whole dataset. They also decide which images are in a part of it."""
    if found := _of_the_paper(name, None):
        return np.array([entry.label for entry in _open(*found, training=False).splits["test"]])
    if name == "digits":
        return digits.load("query")[2]
    if (world := _world(name)) is not None:
        return world.labels("query")
    return np.unique(_folder(name)[1], return_inverse=True)[1]


def few_shot(
    name: str, shots_a_class: int, seed: int, root: str | Path | None = None, index: str | Path | None = None
) -> tuple[Labelled, Labelled]:
    """Support and validation images of a dataset, or of the classes that a part of it names (`gta.data.shots`).

    Each class has `shots_a_class` support images and min(4, shots_a_class) validation images. index: a published few-shot index file
    of a dataset of the paper, which is read instead of a random draw. Raises the errors of `load`, and ValueError for a dataset
    without training images.
    """
    whole, part = parts.split(name)
    if part:
        classes = parts.named(part, len(load(whole, root).class_names))
        support, validation = (_of_classes(drawn, classes) for drawn in few_shot(whole, shots_a_class, seed, root, index))
        return support, validation
    found = _of_the_paper(name, root)
    if found is None:
        return _few_shot_embedded(name, shots_a_class, seed)
    copy = _open(*found, training=True)
    drawn = shots.read_index(Path(index), copy.splits) if index else shots.split(found[0], copy.splits, shots_a_class, seed)
    support, validation = (
        Labelled(tuple(entry.path for entry in entries), _images(copy, entries), np.array([entry.label for entry in entries], dtype=int))
        for entries in drawn
    )
    return support, validation


def _few_shot_embedded(name: str, shots_a_class: int, seed: int) -> tuple[Labelled, Labelled]:
    """`few_shot` for an embedded dataset, with the same draw. An id is the split and the number of the image in it."""
    images: dict[str, Any] = {}
    splits: dict[str, list[Entry]] = {"train": [], "val": []}
    sources: dict[str, tuple[Sequence, np.ndarray]] = {"train": labelled(name)}
    if name == "digits":
        _, digit_images, digit_labels = digits.load("validation")
        sources["val"] = list(digit_images), digit_labels
    for part, (of_part, labels) in sources.items():
        for i, (image, label) in enumerate(zip(of_part, labels, strict=True)):
            splits[part].append(Entry(f"{part}/{i:04d}", int(label)))
            images[splits[part][-1].path] = image
    support, validation = (
        Labelled(tuple(e.path for e in entries), [images[e.path] for e in entries], np.array([e.label for e in entries], dtype=int))
        for entries in shots.split(name, splits, shots_a_class, seed)
    )
    return support, validation


def _part_task(task: Task, part: str) -> Task:
    cut = parts.cut(part, _query_classes(task.source), len(task.class_names))
    images: Sequence = [task.images[i] for i in cut.rows]
    if isinstance(task.images, copies.Images):  # lazy images stay lazy in a part
        images = copies.Images(task.images.items[i] for i in cut.rows)
    return replace(
        task,
        name=f"{task.name}#{part}",
        source=f"{task.source}#{part}",
        image_ids=tuple(task.image_ids[i] for i in cut.rows),
        images=images,
        class_names=tuple(task.class_names[j] for j in cut.classes),
        batches=cut.batches,
    )


def _of_classes(labelled: Labelled, classes: np.ndarray) -> Labelled:
    rows = np.flatnonzero(np.isin(labelled.labels, classes)).tolist()
    ids, images = tuple(labelled.ids[i] for i in rows), [labelled.images[i] for i in rows]
    return Labelled(ids, images, np.searchsorted(classes, labelled.labels[rows]))


def _of_the_paper(name: str, root: str | Path | None) -> tuple[str, Path] | None:
    """Dataset and root of NAME or NAME@ROOT; None if it is no dataset of the paper."""
    dataset, at, place = name.partition("@")
    if dataset not in manifests.names():
        return None
    return dataset, Path(place if at else root or copies.DATA).expanduser()


def _open(name: str, root: Path, training: bool) -> copies.Copy:
    """A copy with the paper's splits. Raises ValueError if the split sizes differ, or if the copy is not the one in the lock file."""
    copy = copies.open_copy(name, root, training)
    for split, expected in copy.manifest.splits:
        listed = len(copy.splits[split]) + len(copy.manifest.left_out) * (split == "train")
        if listed != expected and (split == "test" or training):
            raise ValueError(f"{name}: {listed:,} images listed for {split}, not {expected:,}; {_VERIFY.format(name=name, root=root)}")
    if reason := lock.differs(name, copy.base):
        raise ValueError(f"{name}: {reason}; {_VERIFY.format(name=name, root=root)}")
    return copy


def _images(copy: copies.Copy, entries: Sequence[copies.Entry]) -> copies.Images:
    if missing := [entry.path for entry in entries if entry.path not in copy.where]:
        told = _VERIFY.format(name=copy.manifest.name, root=copy.base)
        raise FileNotFoundError(f"{copy.manifest.name}: {len(missing):,} images are missing, such as {missing[0]}; {told}")
    return copies.Images(copy.where[entry.path] for entry in entries)


_VERIFY = "`python -m gta data verify {name} --root {root}` lists what is wrong"


def _paper_task(name: str, root: Path) -> Task:
    copy = _open(name, root, training=False)
    manifest, entries = copy.manifest, copy.splits["test"]
    return Task(
        name,
        f"{name}@{root}",
        tuple(entry.path for entry in entries),
        _images(copy, entries),
        manifest.class_names,
        manifest.template,
        manifest.sentence,
        manifest.nameless,
        natural_augmentation,
        manifest.domain,
        "test",
    )


def labelled(name: str, cache: Path = CACHE) -> tuple[list, np.ndarray]:
    """Training images of an embedded dataset and their classes, int (S,). None of them is a query image.

    Raises ValueError for another dataset.
    """
    if name == "digits":
        return list(digits.load("train")[1]), digits.load("train")[2]
    if (world := _world(name)) is not None:
        folder = aviary.write(world, cache)
        return [folder / file for file in world.files("train")], world.labels("train")
    known = (*NAMES, *manifests.names())
    raise ValueError(f"{name!r} has no images to learn from{nearest(name, known)}; known: {', '.join(known)}")


def _world(name: str) -> aviary.World | None:
    """The world of a name such as `aviary:3`; None for the name of another dataset."""
    dataset, _, seed = name.partition(":")
    if dataset != "aviary":
        return None
    if not (seed or "0").isdecimal():
        raise ValueError(f"unknown dataset {name!r}: the seed of a world is a number, such as aviary:3")
    return aviary.world(int(seed or 0))


def _aviary(world: aviary.World, cache: Path) -> Task:
    folder, files, name = aviary.write(world, cache), world.files("query"), f"aviary:{world.seed}"
    ids = tuple(f"{name}/{i:04d}" for i in range(len(files)))  # an id does not reveal the class
    return Task(
        name,
        name,
        ids,
        [folder / file for file in files],
        world.names,
        aviary.BIRD,
        aviary.SENTENCE,
        aviary.NAMELESS + " with {attribute}",
        BirdView,
        "aviary",
        embedded=aviary.ENCODERS,
        baseline="CLIP+attributes",
        facts=world.facts,
    )


def glyph_view(size: int) -> GlyphView:
    """Of glyphs that are as large as the encoder reads them already."""
    return GlyphView()


def _folder(name: str, tell: bool = False) -> tuple[list[Path], list[str]]:
    """The images of a folder and the sub-folder of each. tell: warn of what is left out."""
    base, names = Path(name), (*NAMES, *manifests.names())
    if not base.is_dir():
        known = f"known: {', '.join(names)}, or a folder with a sub-folder of images for each class"
        raise ValueError(f"unknown dataset {name!r}{nearest(name, names)}; {known}")
    found, left_out = folders.classes(base)
    if not found:
        told = folders.told(left_out, base) or "it is empty"
        raise ValueError(f"{name}: a sub-folder of images for each class is needed, and no image is in one: {told}")
    if tell and left_out:
        warnings.warn(f"{name}: left out: {folders.told(left_out, base)}", stacklevel=3)
    return [path for path, _ in found], [folder for _, folder in found]
