"""Measure a diagnosis where the truth is known: which images are predicted to fail, and which slices are found, by each method.

    of images    AUROC of the score against what is wrong, and the share of wrong images among the tenth with the largest scores
    of slices    the rank of the first one that bears the words of the plant, or words that are as true of what is harmed; a plant is found
                 if it is among the first three. `perfect sight` has the truth of all words in place of an encoder, for likeness alone: what
                 it does not find, what images show does not tell

Whatever learns from losses is scored on folds that it has not learnt from. The null is the same diagnosis of shuffled losses.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.random import PCG64, Generator
from sklearn.metrics import roc_auc_score

from gta.diagnosis import baselines, slices
from gta.diagnosis.plants import Sample
from gta.diagnosis.predictors import described, folds, out_of_fold

TOP = 0.1  # of the images, those with the largest scores
FIRST = 3  # slices that a reader looks at
OURS, ALONE, NULL = "ensemble", "ensemble, embedding alone", "null: shuffled losses"
SLICES, ALIKE, SIGHT = "slices by words", "slices by words, likeness alone", "perfect sight"


def scores(features: np.ndarray, z: np.ndarray, wrong: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """How likely each image is to fail by each method, (n,) each, larger for likelier. features: (n, d); z: (n, M); wrong: bool (n,)."""
    parts, classes, loss = folds(wrong, np.arange(len(wrong)), seed), z.argmax(1), wrong.astype(float)
    found = {"1 - confidence": 1 - z.max(1), "margin": baselines.margin(z), "mixture": np.empty(len(z)), "class SVM": np.empty(len(z))}
    for learn, rest in parts:
        found["mixture"][rest] = baselines.Mixture(features[learn], wrong[learn], seed).loss(features[rest])
        svms = baselines.class_svms(features[learn], classes[learn], wrong[learn])
        rates = class_rates(classes[learn], loss[learn], z.shape[1])
        found["class SVM"][rest] = baselines.svm_loss(svms, rates, features[rest], classes[rest])
    seen = described(features, classes, z.shape[1], found["margin"])
    found |= out_of_fold(seen, loss, parts, seed)
    found[ALONE] = out_of_fold(features, loss, parts, seed)[OURS]
    shuffled = Generator(PCG64([seed, 8])).permutation(wrong)
    found[NULL] = out_of_fold(seen, shuffled.astype(float), folds(shuffled, np.arange(len(wrong)), seed), seed)[OURS]
    return found


def class_rates(classes: np.ndarray, loss: np.ndarray, count: int) -> np.ndarray:
    """The mean loss of the images that are labelled as each class, (count,), with one image more in each that has the mean of all."""
    images, lost = np.bincount(classes, minlength=count), np.bincount(classes, weights=loss, minlength=count)
    return (lost + loss.mean()) / (images + 1)


def of_images(scored: dict[str, np.ndarray], wrong: np.ndarray, planted: np.ndarray) -> list[dict]:
    """A line for each method: `auroc`; of the tenth with the largest scores the shares that are wrong, `precision`, and that were harmed,
    `harmed`. planted: bool (n,)."""
    lines = []
    for method, score in scored.items():
        top = np.argsort(-score, kind="stable")[: round(TOP * len(score))]
        line = {"method": method, "auroc": roc_auc_score(wrong, score), "precision": wrong[top].mean()}
        lines.append(line | {"harmed": planted[top].mean() if planted.any() else np.nan})
    return lines


def of_slices(
    sample: Sample, features: np.ndarray, z: np.ndarray, said: np.ndarray, texts: np.ndarray, names: Sequence[str], seed: int
) -> list[dict]:
    """A line for each method: its first three names; `rank` of the first that is a word of the plant (0: none of them), `as_true` of the
    first that is as true (`Sample.as_true`); and, of slices with a p-value, the p of the first, and the share of harmed images in the best
    of the three, `precision`. said: (M, d), of the texts of each class; texts: (T, d), of `names`."""
    wrong, classes = z.argmax(1) != sample.labels, z.argmax(1)
    loss, directions = wrong.astype(float), slices.directions(features, texts)
    both = slices.both_ways(features, texts, said[classes])
    shuffled = Generator(PCG64([seed, 8])).permutation(loss)
    tried = {SLICES: (both, loss), ALIKE: (directions, loss), "1 - confidence, by words": (both, 1 - z.max(1)), NULL: (both, shuffled)}
    lines = []
    for method, (scores_of, of) in tried.items():
        found = slices.find(scores_of, [*names] * (scores_of.shape[1] // len(names)), of, FIRST, seed)
        precision = max(float(sample.planted[one.members].mean()) for one in found)
        lines.append(_line(method, sample, [one.text for one in found]) | {"p": found[0].p, "precision": precision})
    svms = baselines.class_svms(features, classes, wrong)
    named = {
        "mixture": baselines.Mixture(features, wrong, seed).slices(features, wrong, directions, names),
        "class SVM": baselines.svm_slices(svms, texts, names),
        "ridge": baselines.ridge_slices(features, loss, texts, names),
    }
    if sample.shows:
        named[SIGHT] = seen_perfectly(sample.shows, loss)
    return [*lines, *(_line(method, sample, of) | {"p": np.nan, "precision": np.nan} for method, of in named.items())]


def _line(method: str, sample: Sample, named: Sequence[str]) -> dict:
    """The rank of a plant's words among distinct names, of which the first three count."""
    first = list(dict.fromkeys(named))[:FIRST]

    def rank(words: Sequence[str]) -> int:
        return next((place for place, name in enumerate(first, start=1) if name in words), 0)

    return {"method": method, "rank": rank(sample.words), "as_true": rank(sample.as_true), "names": " | ".join(first)}


def seen_perfectly(shows: Mapping[str, np.ndarray], loss: np.ndarray) -> list[str]:
    """The first names by Z, one after the other as in `gta.diagnosis.slices`, where a slice is the images that a phrase is true of."""
    members, strata, found = np.stack(list(shows.values())), np.zeros(len(loss), dtype=int), []
    for _ in range(FIRST):
        best = int(slices.statistics(members, loss[:, None], strata)[:, 0].argmax())
        found.append(list(shows)[best])
        strata = 2 * strata + members[best]
    return found
