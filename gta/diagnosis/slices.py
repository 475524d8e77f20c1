"""Slices: sets of images, each named by a text, in which the labeller fails more than elsewhere.

Each text that is given is tried in two ways. With unit features f of an image, t of the text and u of what its label says, a mean taken
away from each (over images, texts and labels of images),

    like the text                             f . t
    more like it than the label says          (f - c u) . t,      c = sum of f . u / sum of u . u, over all images

so that what all images or all texts share says nothing, and, in the second way, nothing that the label tells already. A bird whose wings
are painted over is like others with such wings, and unlike what its label says. A slice is the images with the largest scores, a share of
SHARES of all. It knows the labels that were given, never which of them are wrong: it stands before the first failure is looked at.

With l the loss (1 for a wrong label), k the images of a slice, n all, and mean and variance over all,

    Z = (sum of l in the slice - k mean l) / sqrt( k (n - k) / (n - 1) var l )

of the permutation distribution. The largest Z of all slices is taken, and its images become a stratum: the numerators and variances of
the next slices are summed over strata, as Mantel and Haenszel (J. Natl. Cancer Inst. 1959) do. A second name of the same images then
finds nothing more.

How often would the largest Z of so many slices be as large by chance? Losses are permuted within strata, all slices are tried again, and
the share of permutations with a largest Z as large is the p-value (max T of Westfall and Young 1993): it holds for all slices together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

SHARES = (0.05, 0.1, 0.2, 0.3)  # of the images, from the largest score on
PERMUTATIONS = 999
LEVEL = 0.95


@dataclass(frozen=True)
class Slice:
    """text: its name; column: of the scores; others: names of nearly the same images; members: int (k,), rows of images, the most typical
    first; rate: mean loss among them, with its interval `low`, `high`, which holds for all slices together where the loss is 0 or 1, else
    NaN; rest: mean loss of all other images; z, p: as in the head of this file, given the slices before."""

    text: str
    column: int
    others: tuple[str, ...]
    members: np.ndarray
    rate: float
    low: float
    high: float
    rest: float
    z: float
    p: float


def directions(features: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """The scores (n, T) of features (n, d), by unit texts (T, d): how much more than all others an image is like each text."""
    return (features - features.mean(0)) @ (texts - texts.mean(0)).T


def beyond(features: np.ndarray, said: np.ndarray) -> np.ndarray:
    """What unit features (n, d) show beyond what their labels say, (n, d): each less c times the unit feature of its label, `said` (n, d),
    with the c that fits all images best. Where all labels are one, nothing but their mean is taken away."""
    image, label = features - features.mean(0), said - said.mean(0)
    return image - (image * label).sum() / max((label**2).sum(), 1e-12) * label


def both_ways(features: np.ndarray, texts: np.ndarray, said: np.ndarray) -> np.ndarray:
    """The scores (n, 2 T) of images: like each text, and then more like it than the label says."""
    return np.hstack([directions(features, texts), directions(beyond(features, said), texts)])


def candidates(scores: np.ndarray) -> np.ndarray:
    """The slices of scores (n, C), bool (C * len(SHARES), n): for each column the images with the largest scores, in each of SHARES. Equal
    scores come in the order of the images."""
    rank = np.argsort(np.argsort(-scores, axis=0, kind="stable"), axis=0, kind="stable")
    sizes = [max(1, round(share * len(scores))) for share in SHARES]
    return np.stack([rank[:, j] < size for j in range(scores.shape[1]) for size in sizes])


def statistics(members: np.ndarray, losses: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Z (C, B) of slices, bool (C, n), for each of B columns of losses (n, B); 0 where nothing can vary. strata: int (n,)."""
    above, variance = np.zeros((len(members), losses.shape[1])), np.zeros((len(members), losses.shape[1]))
    for stratum in np.unique(strata):
        of = losses[strata == stratum]
        n, inside = len(of), members[:, strata == stratum].astype(float)
        k = inside.sum(1, keepdims=True)
        above += inside @ of - k * of.mean(0)
        variance += k * (n - k) / max(n - 1, 1) * of.var(0)
    return np.divide(above, np.sqrt(variance), out=np.zeros_like(above), where=variance > 1e-12)


def find(scores: np.ndarray, names: Sequence[str], loss: np.ndarray, count: int, seed: int, others: float = 0.5) -> list[Slice]:
    """The first `count` slices, found one after the other as the head of this file says.

    scores: (n, C); names: the text of each column, which may have several; loss: float (n,), from 0 to 1; others: the share of images that
    two slices of one size have in common, from which on the second is another name of the first. Raises ValueError for shapes that do not
    fit.
    """
    if scores.shape != (len(loss), len(names)):
        raise ValueError(f"scores {scores.shape} are not of {len(loss)} images and {len(names)} columns")
    members, rng = candidates(scores), np.random.default_rng(seed)
    strata, found, left = np.zeros(len(loss), dtype=int), [], np.ones(len(members), dtype=bool)
    for _ in range(min(count, len(set(names)))):
        shuffled = np.tile(np.asarray(loss, dtype=float)[:, None], (1, PERMUTATIONS + 1))
        for stratum in np.unique(strata):
            rows = np.flatnonzero(strata == stratum)
            shuffled[rows, 1:] = rng.permuted(shuffled[rows, 1:], axis=0)
        z = np.where(left[:, None], statistics(members, shuffled, strata), -np.inf)
        best, largest = int(z[:, 0].argmax()), z[:, 1:].max(0)
        p = (1 + int((largest >= z[best, 0]).sum())) / (1 + PERMUTATIONS)
        found.append(_slice(best, members, scores, names, loss, float(z[best, 0]), p, others))
        taken = {found[-1].text, *found[-1].others}
        left &= np.repeat([name not in taken for name in names], len(SHARES))
        strata = 2 * strata + members[best]
        if not left.any():
            break
    return found


def _slice(
    best: int, members: np.ndarray, scores: np.ndarray, names: Sequence[str], loss: np.ndarray, z: float, p: float, others: float
) -> Slice:
    j, size = divmod(best, len(SHARES))
    of_size, inside = members[size :: len(SHARES)], members[best]
    shared = (of_size & inside).sum(1) / inside.sum()
    near = [int(i) for i in np.argsort(-shared, kind="stable") if names[i] != names[j] and shared[i] >= others]
    rows = np.flatnonzero(inside)
    low, high = rate_interval(loss[inside], len(members))
    order = rows[np.argsort(-scores[rows, j], kind="stable")]
    also = tuple(dict.fromkeys(names[i] for i in near))
    return Slice(names[j], j, also, order, loss[inside].mean(), low, high, loss[~inside].mean(), z, p)


def rate_interval(loss: np.ndarray, tried: int) -> tuple[float, float]:
    """The exact interval (Clopper and Pearson, Biometrika 1934) of the failure rate of images with a loss of 0 or 1, (k,), so wide that all
    of `tried` slices lie in theirs with a probability of LEVEL (Bonferroni); NaN for other losses."""
    if not np.isin(loss, (0, 1)).all():
        return float("nan"), float("nan")
    found = binomtest(int(loss.sum()), len(loss)).proportion_ci(1 - (1 - LEVEL) / tried, method="exact")
    return float(found.low), float(found.high)
