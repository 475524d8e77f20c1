"""When to say "I don't know": a threshold on the confidence that keeps the share of wrong labels under a wanted risk.

It is fitted on a few images that somebody has reviewed and that were drawn at random. Each threshold t, fixed beforehand, accepts the
images whose confidence is t or more. Of n(t) reviewed ones among them k(t) are wrong, and k(t) ~ Binomial(n(t), R(t)), where R(t) is the
share of wrong labels among all images that t accepts. (Reviewed images are drawn without replacement, which makes the true tail lighter
still.) So R(t) is at most

    u(t) = the Clopper-Pearson bound, the R at which P(Binomial(n(t), R) <= k(t)) = 1 - LEVEL     (Biometrika 1934, 26)

with a probability of LEVEL, for one t. To choose among many, they are tested in an order fixed before any label is seen, the strictest
first, each with H: R(t) > risk, rejected if u(t) <= risk. The first that is not rejected ends it, and the last rejected is chosen. Then

    P( R(chosen) > risk ) <= 1 - LEVEL

whatever the scores mean: fixed-sequence testing in "Learn then Test" (Angelopoulos et al. 2021, arXiv 2110.01052). The
order depends on the scores of all images and on how many are reviewed, never on which are right.

Sets of classes: with s_i = 1 - z of the true class of reviewed image i, and q the ceil((n + 1)(1 - risk))-th smallest s, the set of classes
with 1 - z <= q holds the true one for a share of 1 - risk of images at least, in the mean over draws of the reviewed ones (split conformal
prediction, Vovk et al. 2005; this score: Sadinle et al. 2019, J. Am. Stat. Assoc. 114). For one draw that share is Beta(k, n + 1 - k), k
the rank above (Vovk 2012, arXiv 1209.2673).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

LEVEL = 0.9  # nine times in ten
STRICTEST = 0.5  # of the images: the least that a threshold which is tested accepts
STEP = 0.05  # of the images, between two thresholds that are tested
ROUNDING = 1e-9  # by which a product of floats may miss a whole number


@dataclass(frozen=True)
class Point:
    """A threshold on the risk-coverage curve. share: of all images that it accepts; reviewed, wrong: among these; low, high: ends of the
    Clopper-Pearson interval of the risk, each passed at most once in ten."""

    threshold: float
    share: float
    reviewed: int
    wrong: int
    low: float
    high: float


def at_most(wrong: int, of: int) -> float:
    """u: the true share is at most this, with a probability of LEVEL. 1 if nothing was seen."""
    return 1.0 if wrong == of else float(betaincinv(wrong + 1, of - wrong, LEVEL))


def at_least(wrong: int, of: int) -> float:
    """The true share is at least this, with a probability of LEVEL. 0 if nothing was seen."""
    return 0.0 if wrong == 0 else float(betaincinv(wrong, of - wrong + 1, 1 - LEVEL))


def needed(risk: float) -> int:
    """How many reviewed images, none of them wrong, show a risk: the smallest n with (1 - risk)^n <= 1 - LEVEL."""
    return math.ceil(math.log(1 - LEVEL) / math.log(1 - risk) - ROUNDING)


def shares_to_test(reviewed: int, risk: float) -> list[float]:
    """Shares of the images that the tested thresholds accept, rising to 1; none if so few reviewed images cannot show the risk.

    The first is a half, or the smallest of which, with a probability of LEVEL, as many reviewed images are accepted as `needed`, if that is
    more: a stricter one would fail for want of images. Under a half few are seen and a single wrong one ends the tests, however many
    are reviewed in all. P(Binomial(n, c) >= m) is the distribution function of Beta(m, n - m + 1) at c.
    """
    if (least := needed(risk)) > reviewed:
        return []
    first = max(STRICTEST, float(betaincinv(least, reviewed - least + 1, LEVEL)))
    return [*np.arange(first, 1, STEP).tolist(), 1.0]


def curve(scores: np.ndarray, reviewed: np.ndarray, wrong: np.ndarray, shares: Sequence[float]) -> Iterator[Point]:
    """The points at which shares of the images are accepted; of equal scores all, so that a share may be larger, and none comes twice.

    scores: (N,) of all images; reviewed: int (n,), which of them are; wrong: bool (n,).
    """
    order = np.sort(scores)[::-1]
    for threshold in dict.fromkeys(float(order[max(0, math.ceil(share * len(order) - ROUNDING) - 1)]) for share in shares):
        accepted = scores[reviewed] >= threshold
        k, n = int(wrong[accepted].sum()), int(accepted.sum())
        yield Point(threshold, float((scores >= threshold).mean()), n, k, at_least(k, n), at_most(k, n))


def threshold(scores: np.ndarray, reviewed: np.ndarray, wrong: np.ndarray, risk: float) -> Point | None:
    """The chosen point, or None if not even the strictest could be shown to keep the risk. Arguments as in `curve`."""
    chosen = None
    for point in curve(scores, reviewed, wrong, shares_to_test(len(reviewed), risk)):
        if point.high > risk:
            break
        chosen = point
    return chosen


def set_rank(reviewed: int, risk: float) -> int | None:
    """k, which of the sorted scores of so many reviewed images is the bound of a set; None if they are too few and every class belongs."""
    k = math.ceil((reviewed + 1) * (1 - risk) - ROUNDING)
    return k if k <= reviewed else None


def set_bound(z_of_truth: np.ndarray, risk: float) -> float | None:
    """The smallest z of a class in the set of an image, 1 - q; None if every class belongs. z_of_truth: (n,), of the true class of each
    reviewed image; 0 for an image of none of the classes, which no set can hold."""
    k = set_rank(len(z_of_truth), risk)
    bound = None if k is None else float(np.sort(z_of_truth)[::-1][k - 1])
    return bound or None


def share_of_sets(reviewed: int, risk: float) -> float:
    """The share of images whose set holds the true class is at least this, with a probability of LEVEL over the reviewed ones."""
    k = set_rank(reviewed, risk)
    return 1.0 if k is None else float(betaincinv(k, reviewed + 1 - k, 1 - LEVEL))
