"""Calibration: whether answers are right as often as z says, and the temperature that makes them so. Nothing here reads a label.

    ece      expected calibration error: sum over bins of (images in the bin / images) |accuracy - mean confidence|, over equal-width bins
             of the confidence max_j z_ij (Guo et al. 2017, arXiv 1706.04599, equation 3)
    brier    mean over images of sum_j (z_ij - [j is the label])^2, from 0 to 2 (Brier 1950, Monthly Weather Review 78)
    nll      mean over images of -log z_i,label

A temperature T replaces z = softmax(l) by softmax(l / T). All T > 0 leave the order of the classes, so accuracy stays. `log z` are such
logits l; where the method has logits of its own they are better, since a z that is 0 to the last digit has no logarithm.
"""

import numpy as np
import pandas as pd
from scipy.optimize import brentq, minimize_scalar
from scipy.special import logsumexp, softmax
from scipy.stats import norm

BINS = 15  # of Guo et al.
TEMPERATURES = (0.05, 20.0)  # the smallest and the largest that a rule may choose
EDGE = 1e-9  # by which rounding may put a confidence above the edge of its bin
SUMS = 1e-4  # by which the sum of z may miss 1


def ece(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """The expected calibration error, from 0 to 1. confidence: (N,) from 0 to 1; correct: bool (N,).

    Bin b has the confidences in (b / bins, (b + 1) / bins], the first one 0 too; empty bins add nothing. It is never negative, so that
    few images give more than 0 even where all is right: `ece_if_calibrated` says how much. Raises ValueError naming what cannot be.
    """
    confidence, correct = _checked(confidence, correct)
    gaps = np.bincount(_bins(confidence, bins), weights=confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def ece_if_calibrated(confidence: np.ndarray, bins: int = BINS) -> float:
    """The `ece` to expect of answers that are right exactly as often as they say. It is what so many images cannot tell from 0.

    In each bin right minus expected answers are normal, by the central limit theorem, with the variance sum_i c_i (1 - c_i); the mean of
    the absolute value is sqrt(2 / pi) standard deviations. A bin of few images is less exact, and weighs little.
    """
    confidence, _ = _checked(confidence, np.zeros(len(confidence), dtype=bool))
    variance = np.bincount(_bins(confidence, bins), weights=np.clip(confidence * (1 - confidence), 0, None), minlength=bins)
    return float(np.sqrt(2 / np.pi * variance).sum() / len(confidence))


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """One line for each bin of `ece`: `count`; mean `confidence` and `accuracy`, with its 95 % Wilson interval `low`, `high`, all from 0 to
    1 and NaN for an empty bin. The index is the number of the bin."""
    confidence, correct = _checked(confidence, correct)
    lines = []
    for of_bin in (_bins(confidence, bins) == b for b in range(bins)):
        count, right = int(of_bin.sum()), int(correct[of_bin].sum())
        line = {"count": count, "confidence": np.nan, "accuracy": np.nan, "low": np.nan, "high": np.nan}
        if count:
            line |= {"confidence": confidence[of_bin].mean(), "accuracy": right / count}
            line |= dict(zip(("low", "high"), wilson(right / count, count), strict=True))
        lines.append(line)
    return pd.DataFrame(lines).rename_axis("bin")


def wilson(share: float, count: float) -> tuple[float, float]:
    """The 95 % interval of a share of `count` images by Wilson (J. Am. Stat. Assoc. 1927, 22), which holds for few images and for shares
    near 0 and 1."""
    square = float(norm.ppf(0.975)) ** 2 / count
    middle, half = share + square / 2, np.sqrt(square * (share * (1 - share) + square / 4))
    return float((middle - half) / (1 + square)), float((middle + half) / (1 + square))


def brier(assignments: np.ndarray, labels: np.ndarray) -> float:
    """The multi-class Brier score, from 0 to 2. assignments: (N, M), rows sum to 1; labels: int (N,), from 0 to M - 1."""
    missed = np.array(assignments, dtype=float)
    missed[np.arange(len(missed)), _labels(missed, labels)] -= 1
    return float(np.square(missed).sum(1).mean())


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean negative log-likelihood of the labels, in nats. logits: (N, M), z = softmax(logits); labels: int (N,), from 0 to M - 1."""
    scores = np.asarray(logits, dtype=float)
    return float((logsumexp(scores, axis=1) - scores[np.arange(len(scores)), _labels(scores, labels)]).mean())


def is_distribution(assignments: np.ndarray) -> bool:
    """Whether all rows of z (N, M) are distributions: not negative, with the sum 1. Else its largest entry is no confidence."""
    return bool((assignments >= -SUMS).all() and np.allclose(assignments.sum(1), 1, rtol=0, atol=SUMS))


def measures(assignments: np.ndarray, labels: np.ndarray, correct: np.ndarray) -> dict[str, float]:
    """`ece` in % and `brier` of z (N, M) for labels, int (N,), and which answers are right, bool (N,); nothing if z is no distribution."""
    if not is_distribution(assignments):
        return {}
    return {"ece": 100 * ece(assignments.max(1), correct), "brier": brier(assignments, labels)}


def log_of(assignments: np.ndarray) -> np.ndarray:
    """Logits (N, M) of z: its logarithm, in float64. A z that is 0 to the last digit of its float type counts as the smallest normal
    number of that type, which is the most that it can be."""
    z = np.asarray(assignments)
    return np.log(np.maximum(z, np.finfo(z.dtype).tiny).astype(float))


def with_temperature(logits: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(logits / T), (N, M) in float64. logits: (N, M). Raises ValueError unless T > 0."""
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it divides the logits, and must be above 0")
    return softmax(np.asarray(logits, dtype=float) / temperature, axis=1)


def fitted_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T within TEMPERATURES with the smallest `nll` of some labelled images (Guo et al. 2017, section 4.2). logits: (n, M); labels:
    int (n,).

    The likelihood is convex in 1 / T, so along log T, in which it is sought, it falls and then rises. If every one of the images is
    answered rightly it falls for ever as T goes to 0, and the smallest T is returned: then these images are too few.
    """
    scores = np.asarray(logits, dtype=float)
    if (scores.argmax(1) == _labels(scores, labels)).all():
        return TEMPERATURES[0]
    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(lambda s: nll(scores / np.exp(s), labels), bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def matched_temperature(logits: np.ndarray, confidence: float) -> float:
    """The T within TEMPERATURES at which the mean confidence is `confidence`, from 0 to 1; an end of TEMPERATURES if there is none.

    logits: (N, M). The confidence of every image falls as T rises, so there is one at most.
    """
    scores = np.asarray(logits, dtype=float)

    def above(s: float) -> float:
        return float(with_temperature(scores, np.exp(s)).max(1).mean()) - confidence

    low, high = np.log(TEMPERATURES)
    if above(low) <= 0:
        return TEMPERATURES[0]
    return TEMPERATURES[1] if above(high) >= 0 else float(np.exp(brentq(above, low, high, xtol=1e-9)))


def neighbour_temperature(logits: np.ndarray, neighbours: np.ndarray) -> float:
    """A temperature without labels: the T at which the mean confidence is the share of images whose nearest neighbour has the same answer.

    logits: (N, M); neighbours: int (N,), for each image the index of its nearest one. The rule is ours. It assumes that an image and its
    neighbour are of one class, and agree as often as one of them is right: near the truth if wrong answers are scattered, so that a
    wrong image stands among right ones. It fails, with a T that is too small, where neighbours err alike: if a whole cluster has a
    wrong name, or if the answers were smoothed over the very same graph, as transduction does. It fails the other way where neighbours
    are of many classes. (Jiang et al. 2022, arXiv 2106.13799, take the disagreement of two networks for the error of one; two images
    are no two networks, and their result does not carry over.)
    """
    answers, neighbours = np.asarray(logits).argmax(1), np.asarray(neighbours)
    if neighbours.shape != answers.shape:
        raise ValueError(f"neighbours has shape {neighbours.shape}, expected ({len(answers)},): one index for each image")
    return matched_temperature(logits, float((answers == answers[neighbours]).mean()))


def _bins(confidence: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each confidence, int (N,)."""
    if bins < 1:
        raise ValueError(f"bins is {bins}; at least 1 is needed")
    return np.clip(np.ceil(confidence * bins - EDGE).astype(int) - 1, 0, bins - 1)


def _checked(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays (N,), of floats and of bools."""
    confidence, correct = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=bool)
    if confidence.ndim != 1 or confidence.shape != correct.shape or not len(confidence):
        raise ValueError(f"confidence {confidence.shape} and correct {correct.shape} must be (N,) of the same images, at least one")
    wrong = np.flatnonzero(~((confidence >= 0) & (confidence <= 1 + SUMS)))
    if len(wrong):
        raise ValueError(f"confidence[{wrong[0]}] is {confidence[wrong[0]]}; give the largest entry of z, whose rows sum to 1")
    return np.minimum(confidence, 1), correct


def _labels(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """labels as int (N,), for scores (N, M)."""
    labels = np.asarray(labels)
    if scores.ndim != 2 or not len(scores) or labels.shape != scores.shape[:1]:
        raise ValueError(f"labels has shape {labels.shape}, for scores of shape {scores.shape}: one for each image, and at least one")
    wrong = np.flatnonzero((labels < 0) | (labels >= scores.shape[1]))
    if len(wrong):
        raise ValueError(f"labels[{wrong[0]}] is {labels[wrong[0]]}, and there are {scores.shape[1]} classes; leave out what has none")
    return labels
