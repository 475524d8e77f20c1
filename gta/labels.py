"""What z says: the class of each image, the likeliest classes, ties, confidence, and how the labels spread over the classes."""

import torch
from torch import Tensor

TIE = 1e-6  # z that differ by less are equal: two classes with the same texts differ by rounding alone
CROWDED = 10  # times an equal share: from there on a class is told to hold more images than a list of names suggests
FEW = 5  # expected images a class: with fewer, a class without images is no wonder


def log_odds(logits: Tensor) -> Tensor:
    """log( z / (1 - z) ) of z = softmax(logits), (N, M), exact where z is 1 to the last digit. Confidence is ranked by it."""
    top = logits.argmax(1, keepdim=True)
    others = logits.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)  # of all but the likeliest class
    log_z = logits - torch.logaddexp(others, logits.gather(1, top))
    return torch.where(torch.arange(logits.shape[1], device=top.device) == top, logits - others, log_z - torch.log1p(-log_z.exp()))


def answer(assignments: Tensor) -> Tensor:
    """The class of each image, (N,): the largest z of (N, M), and of z that are equal up to rounding (`TIE`) the first class."""
    return (assignments >= assignments.amax(1, keepdim=True) - TIE).byte().argmax(1)


def likeliest(assignments: Tensor, count: int) -> Tensor:
    """The classes with the largest z of each image, (N, count) or fewer, the likeliest first: `answer`, then of z that are equal up to
    rounding the first class. Where the first z is nearly 1 all others are small, so their rounding is measured by themselves."""
    chosen = [answer(assignments)[:, None]]
    while len(chosen) < min(count, assignments.shape[1]):
        assignments = assignments.scatter(1, chosen[-1], -torch.inf)
        best = assignments.amax(1, keepdim=True)
        chosen.append((assignments >= best - TIE * best.abs()).byte().argmax(1, keepdim=True))
    return torch.cat(chosen, 1)


def tied(assignments: Tensor) -> Tensor:
    """Which images have two classes that are equally likely up to rounding, bool (N,): `answer` gives the first of the two."""
    return (assignments >= assignments.amax(1, keepdim=True) - TIE).sum(1) > 1


def unlike_the_list(assignments: Tensor) -> str:
    """A sentence where the inferred sizes do not look like a list of names that all occur, else "". assignments: (N, M).

    It tells classes that no image is labelled as, where each could expect `FEW` images, and a class with `CROWDED` times its equal share
    or, of few classes, with three quarters of all images.
    """
    n, classes = assignments.shape
    counts = torch.bincount(answer(assignments).cpu(), minlength=classes)
    empty, most = int((counts == 0).sum()), int(counts.max())
    told = []
    if classes > 1 and empty and n >= FEW * classes:
        told.append(f"{empty:,} of {classes:,} classes have no image")
    if classes > 1 and most > min(0.75 * n, max(CROWDED * n / classes, FEW)):
        told.append(f"one class has {most:,} of {n:,} images")
    return " and ".join(told)
