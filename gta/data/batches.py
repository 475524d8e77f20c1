"""Batches of a query set, as StatA draws them (Realistic Test-Time Adaptation, arXiv 2501.03729, section 5, and its sampler).

A batch of few effective classes: their number is uniform in a range, cut to the classes that there are; the classes are drawn without
replacement; and so are the images of the batch from all images of these classes. If there are fewer, it takes them all. Nothing is
balanced: a class that was drawn may have no image. Batches are independent of each other, so that an image may be in several.

A stream brings every image once, and is cut into consecutive batches; what remains at its end is left out. It has S slots, as many as
batches or, if they are fewer, classes. A Dirichlet distribution of concentration gamma gives each class its share of images in each slot;
within a slot the order is random. The smaller gamma, the fewer slots has a class. Where gamma is 0, one class comes after the other.

Everything here needs labels, because it makes test sets. No method sees these labels. In the authors' sampler the images of a class
keep the order of the dataset, and the Dirichlet draw has no seed; here both are drawn from the seed.
"""

import numpy as np

from gta.data.chance import dirichlet, order, uniform

RANGES = {"verylow": (1, 4), "low": (2, 10), "medium": (5, 25), "high": (25, 50), "veryhigh": (50, 100)}  # of effective classes
STREAM = 128  # images of a batch of a stream
KINDS = (*RANGES, "stream")


def draw(kind: str, strength: int, many: int, seed: int, labels: np.ndarray) -> list[np.ndarray]:
    """The rows of `many` batches, int (n,) each. A larger `many` adds batches and changes none.

    kind: one of `KINDS`; strength: the images of a batch or, of a stream, a thousand times gamma; labels: int (N,). Raises ValueError if
    there are fewer classes than the range begins with, or fewer images than the stream needs.
    """
    asked, there = f"#{kind}-{strength}x{many}", len(np.unique(labels))
    if many < 1 or (kind in RANGES and strength < 1):
        raise ValueError(f"{asked}: takes at least one batch of at least one image")
    if kind == "stream":
        if many * STREAM > len(labels):
            raise ValueError(f"{asked}: {len(labels)} images are {len(labels) // STREAM} batches of {STREAM}; take no more")
        whole = stream(strength / 1000, seed, labels)
        return [whole[start : start + STREAM] for start in range(0, many * STREAM, STREAM)]
    low, high = RANGES[kind]
    if there < low:
        raise ValueError(f"{asked}: {kind} takes {low} to {high} classes, and there are {there}")
    return [effective(kind, strength, seed, number, labels) for number in range(many)]


def effective(kind: str, size: int, seed: int, number: int, labels: np.ndarray) -> np.ndarray:
    """Batch `number` of few effective classes: rows in random order, int (size,), or fewer if its classes have fewer images."""
    low, high = RANGES[kind]
    what, classes = f"{kind} {size} {number}", np.unique(labels)
    count = low + int(uniform(f"{what} count", seed, 1)[0] * (high - low + 1))
    chosen = classes[order(f"{what} class", seed, len(classes))[:count]]
    images = order(f"{what} image", seed, len(labels))
    return images[np.isin(labels[images], chosen)][:size]


def stream(gamma: float, seed: int, labels: np.ndarray) -> np.ndarray:
    """All rows in the order in which they come, int (N,). Streams of one seed differ in gamma alone."""
    classes, images = np.unique(labels), order("stream image", seed, len(labels))
    turn, slot = order("stream class", seed, len(classes)), np.empty(len(labels), int)
    slots = min(len(labels) // STREAM, len(classes))
    for place, label in enumerate(classes):
        own = images[labels[images] == label]
        if gamma:
            ends = np.floor(dirichlet(f"stream share {place}", seed, gamma, slots).cumsum()[:-1] * len(own))
            slot[own] = np.searchsorted(ends, np.arange(len(own)), side="right")
        else:
            slot[own] = turn[place]
    return np.lexsort((order("stream slot", seed, len(labels)), slot))
