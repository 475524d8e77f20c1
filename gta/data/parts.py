"""Parts of a dataset: a selection of query images and of class names. The name of a part determines it completely.

`NAME#base` and `NAME#new` are the two halves of a dataset in the base-to-new protocol (CoCoOp, arXiv 2203.05557): the first half of
its classes, rounded up, or the other classes, each with the images of these classes only. The other parts are query sets on which
transduction may fail. SEED determines their classes and images. Parts of one seed and different strengths differ as little as possible:

    NAME#imbalanced-R-SEED  the most frequent class has R times the images of the least frequent; ratios between are equally spaced
    NAME#classes-K-SEED     images of only K classes, but the names of all classes
    NAME#small-N-SEED       N images, drawn without regard to their classes
    NAME#unseen-K-SEED      all images, but K classes are not among the names; no name is correct for their images
    NAME#low-NxB-SEED       B batches of N images from few classes; verylow, low, medium, high and veryhigh say from how many
    NAME#stream-GxB-SEED    the first B batches of a stream in which a class comes at few times: gamma is G thousandths

`imbalanced` is the exponential long tail. Batches are inferred each alone; `gta.data.batches` says how they are drawn.

`imbalanced` and `classes` have about a quarter of the dataset's images, if its classes have enough images, and at least one image of
each class that is present. So different strengths differ only in the shares of the classes. The selection by class needs labels: it
makes a test set, and no method sees these labels.
"""

import re
from dataclasses import dataclass

import numpy as np

from gta.data import batches
from gta.data.chance import order

HALVES = ("base", "new")
DRAWN = ("imbalanced", "classes", "small", "unseen")
SHARE = 0.25  # the share of the dataset's images in the parts `imbalanced` and `classes`
_ONE, _MANY = (rf"(?:{'|'.join(kinds)})-\d+" for kinds in (DRAWN, batches.KINDS))
_NAMED = re.compile(rf"(?P<whole>.+)#(?P<part>{'|'.join(HALVES)}|(?:{_ONE}|{_MANY}x\d+)-\d+)")


@dataclass(frozen=True)
class Part:
    """rows: the images, int (n,); classes: the classes whose names are given, int (m,); both in the order of the dataset. batches: the
    sizes of the batches that the images make up one after the other; then rows are in the order of the batches, and an image may be in
    several. Empty: all images are one query set."""

    rows: np.ndarray
    classes: np.ndarray
    batches: tuple[int, ...] = ()

    def labels(self, labels: np.ndarray) -> np.ndarray:
        """Convert classes of the dataset, int (n,), to numbers among the names of the part; -1 for a class without a name there."""
        places = np.full(max(labels.max(initial=-1), self.classes.max()) + 1, -1)
        places[self.classes] = np.arange(len(self.classes))
        return places[labels]


def split(name: str) -> tuple[str, str]:
    """Split a name into dataset and part. The part is empty for a whole dataset."""
    found = _NAMED.fullmatch(name)
    return (found["whole"], found["part"]) if found else (name, "")


def named(part: str, count: int) -> np.ndarray:
    """The classes, out of `count`, whose names a part has, int (m,). This needs no labels."""
    everything = np.arange(count)
    if part in HALVES:
        middle = -(-count // 2)
        return everything[:middle] if part == "base" else everything[middle:]
    kind, strength, _, seed = _read(part)
    return np.sort(order("class", seed, count)[strength:]) if kind == "unseen" else everything


def cut(part: str, labels: np.ndarray, count: int) -> Part:
    """Cut a part from a dataset with `count` classes. labels: the classes of its images, int (N,).

    Raises ValueError if the dataset has too few images or classes for that part.
    """
    if part in HALVES:
        classes = named(part, count)
        return Part(np.flatnonzero(np.isin(labels, classes)), classes)
    kind, strength, many, seed = _read(part)
    if kind in batches.KINDS:
        drawn = batches.draw(kind, strength, many, seed, labels)
        return Part(np.concatenate(drawn), named(part, count), tuple(map(len, drawn)))
    most = {"imbalanced": len(labels), "classes": count, "small": len(labels), "unseen": count - 1}[kind]
    least = 0 if kind == "unseen" else 1
    if not least <= strength <= most:
        raise ValueError(f"#{part}: of {len(labels)} images in {count} classes, {kind} takes {least} to {most}")
    images = order("image", seed, len(labels))
    if kind == "small":
        images = images[:strength]
    elif kind != "unseen":
        images = np.concatenate([images[labels[images] == c][:n] for c, n in enumerate(_sizes(kind, strength, seed, labels, count))])
    return Part(np.sort(images), named(part, count))


def _sizes(kind: str, strength: int, seed: int, labels: np.ndarray, count: int) -> np.ndarray:
    """How many images of each class, int (count,)."""
    shares = np.zeros(count)
    ranked = order("class", seed, count)
    if kind == "imbalanced":
        shares[ranked] = float(strength) ** -np.linspace(0, 1, count)
    else:
        shares[ranked[:strength]] = 1
    wanted = np.round(SHARE * len(labels) * shares / shares.sum()).astype(int)
    return np.minimum(np.maximum(wanted, shares > 0), np.bincount(labels, minlength=count))


def _read(part: str) -> tuple[str, int, int, int]:
    """Kind, strength, number of batches (0 for what is one query set) and seed."""
    kind, size, seed = part.split("-")
    strength, _, many = size.partition("x")
    return kind, int(strength), int(many or 0), int(seed)
