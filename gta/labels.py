"""What z says: the class of each image, the likeliest classes, ties, confidence, and how the labels spread over the classes.

z is a tensor (N, M) or, of many images and classes, `SparseZ`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TIE = 1e-6  # z that differ by less are equal: two classes with the same texts differ by rounding alone
CROWDED = 10  # times an equal share: from there on a class is told to hold more images than a list of names suggests
FEW = 5  # expected images a class: with fewer, a class without images is no wonder


@dataclass(frozen=True)
class SparseZ:
    """z by its largest entries. classes (N, k), integers, ascending in each row; values (N, k), z of these classes; rest (N,): the mass of
    all others, so that a row and its rest sum to 1; size: M.

    `z[rows]` are the rows of some images, whole: (n, M), with 0 where nothing is held. It takes no columns."""

    classes: Tensor
    values: Tensor
    rest: Tensor
    size: int

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.values), self.size

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: int | slice | list[int] | Tensor) -> Tensor:
        if isinstance(rows, tuple):
            raise TypeError("a sparse z is taken by rows alone; gta.labels.share_of gives z of some classes")
        values = self.values[rows]
        return values.new_zeros(*values.shape[:-1], self.size).scatter_(-1, self.classes[rows].long(), values)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def cpu(self) -> "SparseZ":
        return SparseZ(self.classes.cpu(), self.values.cpu(), self.rest.cpu(), self.size)


Z = Tensor | SparseZ


def values_of(z: Z) -> Tensor:
    """The entries of z that are held, (N, M) or (N, k)."""
    return z.values if isinstance(z, SparseZ) else z


def rest_of(z: Z) -> Tensor:
    """The mass of the classes that are not held, (N,)."""
    return z.rest if isinstance(z, SparseZ) else z.new_zeros(len(z))


def rows_of(z: Z, rows: Sequence[int] | Tensor) -> Z:
    """z of some images, in the same form."""
    if isinstance(z, SparseZ):
        return SparseZ(z.classes[rows], z.values[rows], z.rest[rows], z.size)
    return z[rows]


def share_of(z: Z, classes: Tensor) -> Tensor:
    """z of some classes of each image, both (N, c); 0 for one that is not held."""
    if isinstance(z, SparseZ):
        place = torch.searchsorted(z.classes, classes.to(z.classes.dtype)).clamp(max=z.classes.shape[1] - 1)
        return torch.where(z.classes.gather(1, place) == classes, z.values.gather(1, place), 0)
    return z.gather(1, classes)


def _classes_at(z: Z, places: Tensor) -> Tensor:
    """The classes at some places of each row of `values_of`, (N, c)."""
    return z.classes.gather(1, places).long() if isinstance(z, SparseZ) else places


def log_odds(logits: Tensor) -> Tensor:
    """log( z / (1 - z) ) of z = softmax(logits), (N, M), exact where z is 1 to the last digit. Confidence is ranked by it."""
    top = logits.argmax(1, keepdim=True)
    others = logits.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)  # of all but the likeliest class
    log_z = logits - torch.logaddexp(others, logits.gather(1, top))
    return torch.where(torch.arange(logits.shape[1], device=top.device) == top, logits - others, log_z - torch.log1p(-log_z.exp()))


def answer(z: Z) -> Tensor:
    """The class of each image, (N,): the largest z, and of z that are equal up to rounding (`TIE`) the first class."""
    return _classes_at(z, _equal_to_largest(values_of(z)).byte().argmax(1, keepdim=True))[:, 0]


def _equal_to_largest(values: Tensor) -> Tensor:
    return values >= values.amax(1, keepdim=True) - TIE


def likeliest(z: Z, count: int) -> Tensor:
    """The classes with the largest z of each image, (N, count) or fewer, the likeliest first: `answer`, then of z that are equal up to
    rounding the first class. Where the first z is nearly 1 all others are small, so their rounding is measured by themselves."""
    values = values_of(z)
    chosen = [_equal_to_largest(values).byte().argmax(1, keepdim=True)]
    while len(chosen) < min(count, values.shape[1]):
        values = values.scatter(1, chosen[-1], -torch.inf)
        best = values.amax(1, keepdim=True)
        chosen.append((values >= best - TIE * best.abs()).byte().argmax(1, keepdim=True))
    return _classes_at(z, torch.cat(chosen, 1))


def tied(z: Z) -> Tensor:
    """Which images have two classes that are equally likely up to rounding, bool (N,): `answer` gives the first of the two."""
    return _equal_to_largest(values_of(z)).sum(1) > 1


def unlike_the_list(z: Z) -> str:
    """A sentence where the inferred sizes do not look like a list of names that all occur, else "".

    It tells classes that no image is labelled as, where each could expect `FEW` images, and a class with `CROWDED` times its equal share
    or, of few classes, with three quarters of all images.
    """
    n, classes = z.shape
    counts = torch.bincount(answer(z).cpu(), minlength=classes)
    empty, most = int((counts == 0).sum()), int(counts.max())
    told = []
    if classes > 1 and empty and n >= FEW * classes:
        told.append(f"{empty:,} of {classes:,} classes have no image")
    if classes > 1 and most > min(0.75 * n, max(CROWDED * n / classes, FEW)):
        told.append(f"one class has {most:,} of {n:,} images")
    return " and ".join(told)
