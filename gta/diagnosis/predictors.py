"""The predicted loss of each image: an ensemble of light models from what an encoder sees to how wrong the labeller is.

LLM2Loss (Ardeshir 2023, arXiv 2305.03212) fits light models from a semantic embedding of a training image to the loss of a black box on it,
and reads off an ensemble of them where that model fails. No code was released; the light models here are three that err otherwise:

    ridge      one direction: the loss rises along it
    trees      a bagging of small trees, on the principal components: a few thresholds one after the other
    k-NN       the mean loss of the nearest images, by cosine

The prediction is their mean. All are from scikit-learn. Beside the embedding they see the labeller's answer, and its doubt where it tells
one (`described`): which images fail depends on what they are taken for. The paper's models see the embedding alone. An image is always
predicted by models that have not seen its loss, nor that of an image of its group (`folds`).
"""

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5
NEIGHBOURS = 15
COMPONENTS = 32
RESAMPLES = 20  # of the training images, for the interval
LEVEL = 0.9
ANSWER, DOUBT = 1.0, 0.35  # the weights of answer and doubt beside the embedding, chosen on draws from 100 on, which are reported nowhere
FEWEST = 2 * FOLDS  # images that fail, and images that do not


@dataclass(frozen=True)
class Predicted:
    """Of n images: loss, the mean of the ensemble; low, high: the interval of the ensemble's mean between resamples of the images that
    it learns from. It says how far another labelled sample might have moved the prediction, and nothing of the noise of one image."""

    loss: np.ndarray
    low: np.ndarray
    high: np.ndarray


def described(features: np.ndarray, classes: np.ndarray, count: int, doubt: np.ndarray | None) -> np.ndarray:
    """What the models see of all images, (n, d + count) or one column more: embeddings (n, d), their mean taken away and the mean of their
    squared lengths 1; ANSWER at the labeller's answer, int (n,), of `count` classes; and DOUBT times the doubt (n,), larger where the
    labeller is less sure, in standard deviations."""
    centred = features - features.mean(0)
    columns = [centred / np.sqrt(max(centred.var(0).sum(), 1e-12)), ANSWER * np.eye(count)[classes]]
    if doubt is not None:
        columns.append((DOUBT * (doubt - doubt.mean()) / max(doubt.std(), 1e-12))[:, None])
    return np.hstack(columns)


def models(images: int, features: int, seed: int) -> dict[str, object]:
    """The light models, not yet fitted, for so many images with so many features."""
    parts = min(COMPONENTS, features, images - 1)
    trees = RandomForestRegressor(60, max_depth=5, min_samples_leaf=5, max_features=0.5, random_state=seed)
    return {
        "ridge": make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 5, 11))),
        "trees": make_pipeline(PCA(parts, random_state=seed), trees),
        "k-NN": KNeighborsRegressor(min(NEIGHBOURS, images)),
    }


def folds(wrong: np.ndarray, groups: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """FOLDS pairs (rows to learn from, rows to predict): each image is predicted once, images of one group together, and about as many
    fail in each fold. wrong: bool (n,); groups: (n,). Raises ValueError where too few images fail, or do not."""
    if min(wrong.sum(), (~wrong).sum()) < FEWEST:
        told = f"{wrong.sum()} of {len(wrong)} labelled images are wrong"
        raise ValueError(f"{told}: at least {FEWEST} wrong ones and {FEWEST} right ones are needed; label more images")
    return list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(wrong, wrong, groups))


def out_of_fold(features: np.ndarray, loss: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]], seed: int) -> dict[str, np.ndarray]:
    """The predicted loss (n,) by each model of `models` and by their mean, `ensemble`, of images (n, d) with losses (n,), each by models of
    the other folds."""
    found = {name: np.empty(len(loss)) for name in models(len(loss), features.shape[1], seed)}
    for learn, rest in parts:
        for name, model in models(len(learn), features.shape[1], seed).items():
            found[name][rest] = model.fit(features[learn], loss[learn]).predict(features[rest])  # type: ignore[attr-defined]
    return {**found, "ensemble": np.mean(list(found.values()), axis=0)}


def predicted(features: np.ndarray, loss: np.ndarray, others: np.ndarray, seed: int) -> Predicted:
    """The predicted loss of other images (m, d), from labelled ones (n, d) with losses (n,)."""
    rng, drawn = np.random.default_rng(seed), []
    for draw in range(RESAMPLES + 1):
        rows = rng.integers(len(loss), size=len(loss)) if draw else np.arange(len(loss))
        fitted = (model.fit(features[rows], loss[rows]) for model in models(len(rows), features.shape[1], seed).values())  # type: ignore[attr-defined]
        drawn.append(np.mean([model.predict(others) for model in fitted], axis=0))
    low, high = np.quantile(drawn[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return Predicted(np.clip(drawn[0], 0, 1), np.clip(np.minimum(low, drawn[0]), 0, 1), np.clip(np.maximum(high, drawn[0]), 0, 1))
