"""Parts of a dataset, by a name that gives the same part again: which images make up a query set, and which names come with it.

`NAME#base` and `NAME#new` are the two halves of a dataset in the base-to-new protocol (CoCoOp, arXiv 2203.05557): the first half of
its classes, rounded up, or the rest, with the images of those alone. The others are query sets on which transduction may go wrong;
SEED says which classes and images they draw, and a stronger part of a seed differs from a weaker one in as little as it can:

    NAME#imbalanced-R-SEED  the most frequent class has R times the images of the least frequent, those between in equal steps of ratio
    NAME#classes-K-SEED     images of K classes alone, while all names are given
    NAME#small-N-SEED       N images, drawn without a look at their classes
    NAME#unseen-K-SEED      K classes are not among the names, and their images are there all the same: no name is right for those

The first two have about a quarter of the dataset's images, where its classes have as many (and each class that is there at least one), so
that strengths differ in nothing but the shares of the classes. To choose by class takes labels: it makes a test set, and no method sees it.
"""

import hashlib
import re
from dataclasses import dataclass

import numpy as np

HALVES = ("base", "new")
DRAWN = ("imbalanced", "classes", "small", "unseen")
SHARE = 0.25  # of the dataset's images, in the parts that choose shares of classes
_NAMED = re.compile(rf"(?P<whole>.+)#(?P<part>{'|'.join(HALVES)}|(?:{'|'.join(DRAWN)})-\d+-\d+)")


@dataclass(frozen=True)
class Part:
    """rows: the images, int (n,), in the order of the dataset; classes: those whose names are given, in the same order, int (m,)."""

    rows: np.ndarray
    classes: np.ndarray

    def labels(self, labels: np.ndarray) -> np.ndarray:
        """Classes of the dataset, int (n,), as numbers among the names of the part; -1 where the name is not among them."""
        places = np.full(max(labels.max(initial=-1), self.classes.max()) + 1, -1)
        places[self.classes] = np.arange(len(self.classes))
        return places[labels]


def split(name: str) -> tuple[str, str]:
    """The dataset and the part that a name says; no part where it names a whole dataset."""
    found = _NAMED.fullmatch(name)
    return (found["whole"], found["part"]) if found else (name, "")


def named(part: str, count: int) -> np.ndarray:
    """The classes of `count` whose names come with a part, int (m,). It takes no labels."""
    everything = np.arange(count)
    if part in HALVES:
        middle = -(-count // 2)
        return everything[:middle] if part == "base" else everything[middle:]
    kind, strength, seed = _read(part)
    return np.sort(_order("class", seed, count)[strength:]) if kind == "unseen" else everything


def cut(part: str, labels: np.ndarray, count: int) -> Part:
    """A part of a dataset of `count` classes, of whose images the classes are `labels`, int (N,).

    Raises ValueError where it has too few images or classes for that part.
    """
    if part in HALVES:
        classes = named(part, count)
        return Part(np.flatnonzero(np.isin(labels, classes)), classes)
    kind, strength, seed = _read(part)
    most = {"imbalanced": len(labels), "classes": count, "small": len(labels), "unseen": count - 1}[kind]
    least = 0 if kind == "unseen" else 1
    if not least <= strength <= most:
        raise ValueError(f"#{part}: of {len(labels)} images in {count} classes, {kind} takes {least} to {most}")
    images = _order("image", seed, len(labels))
    if kind == "small":
        images = images[:strength]
    elif kind != "unseen":
        images = np.concatenate([images[labels[images] == c][:n] for c, n in enumerate(_sizes(kind, strength, seed, labels, count))])
    return Part(np.sort(images), named(part, count))


def _sizes(kind: str, strength: int, seed: int, labels: np.ndarray, count: int) -> np.ndarray:
    """How many images of each class, int (count,)."""
    shares = np.zeros(count)
    order = _order("class", seed, count)
    if kind == "imbalanced":
        shares[order] = float(strength) ** -np.linspace(0, 1, count)
    else:
        shares[order[:strength]] = 1
    wanted = np.round(SHARE * len(labels) * shares / shares.sum()).astype(int)
    return np.minimum(np.maximum(wanted, shares > 0), np.bincount(labels, minlength=count))


def _read(part: str) -> tuple[str, int, int]:
    kind, strength, seed = part.split("-")
    return kind, int(strength), int(seed)


def _order(what: str, seed: int, count: int) -> np.ndarray:
    """A shuffle of `count` numbers, int (count,), the same on every platform and with every version of a library."""
    return np.array(sorted(range(count), key=lambda i: hashlib.sha256(f"{what} {seed} {i}".encode()).digest()), dtype=int)
