"""What a diagnosis has to beat: scores that say which images fail, and slices with names, by other means.

1 - confidence, margin    what the labeller says of itself
mixture                   as Domino (Eyuboglu et al. 2022, arXiv 2203.14960): a mixture of Gaussians over embeddings in which each
                          component also has a rate of failure, weighed by GAMMA
class SVM                 as Jain et al. 2022 (arXiv 2206.14754): in each class a linear SVM of right against wrong, whose normal is the
                          direction of failure
ridge                     one such direction for all classes at once, by least squares
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.svm import LinearSVC

COMPONENTS, PARTS = 25, 32  # of the mixture; and the principal components that it sees
GAMMA = 10.0  # how much the rate of failure counts beside the embedding
STEPS, FLOOR = 50, 1e-4
FEW = 3  # right and wrong images of a class, below which it has no SVM


def margin(z: np.ndarray) -> np.ndarray:
    """1 minus the difference of the two largest entries of z (n, M), (n,): large where the labeller wavers."""
    first, second = -np.partition(-z, 1, axis=1)[:, :2].T
    return 1 - (first - second)


class Mixture:
    """Components S with P(S) = weight, Gaussian embeddings with a diagonal covariance, and P(wrong | S) = rate, fitted by EM to

        sum_i log sum_s P(s) N(x_i; mean_s, variance_s) P(l_i | s)^gamma

    where l_i says whether image i is wrong. Domino has two factors, the true class and the labeller's probability of each class, in place
    of P(l | s): with many classes and few images, whether they differ is what can be learnt. It begins with k-means of the
    embeddings among images that are wrong and among those that are right, as many components for each as it has images."""

    def __init__(self, features: np.ndarray, wrong: np.ndarray, seed: int):
        self.pca = PCA(min(PARTS, *features.shape), random_state=seed).fit(features)
        x = self.pca.transform(features)
        z = _begin(x, wrong, seed)
        for _ in range(STEPS):
            self._maximise(x, wrong, z)
            z = self._expect(x, wrong)

    def _maximise(self, x: np.ndarray, wrong: np.ndarray, z: np.ndarray) -> None:
        size = z.sum(0) + 1e-9
        self.weight, self.mean = size / size.sum(), z.T @ x / size[:, None]
        self.variance = np.maximum(z.T @ x**2 / size[:, None] - self.mean**2, FLOOR * x.var(0).mean())
        self.rate = np.clip(z.T @ wrong / size, 1e-3, 1 - 1e-3)

    def _expect(self, x: np.ndarray, wrong: np.ndarray | None) -> np.ndarray:
        """P(S | x, l) of images (n, parts); P(S | x) without `wrong`, (n, S)."""
        distance = ((x[:, None] - self.mean) ** 2 / self.variance + np.log(self.variance)).sum(2)
        joint = np.log(self.weight) - distance / 2
        if wrong is not None:
            joint += GAMMA * np.where(wrong[:, None], np.log(self.rate), np.log(1 - self.rate))
        return np.exp(joint - logsumexp(joint, axis=1, keepdims=True))

    def loss(self, features: np.ndarray) -> np.ndarray:
        """The expected rate of failure of images (n, d) whose losses are not known, (n,)."""
        return self._expect(self.pca.transform(features), None) @ self.rate

    def slices(self, features: np.ndarray, wrong: np.ndarray, scores: np.ndarray, names: Sequence[str]) -> list[str]:
        """The name of each component, those with the largest rate of failure first: the text with the largest mean score (n, T), over its
        images, above that over all."""
        z = self._expect(self.pca.transform(features), wrong)
        typical = z.T @ (scores / scores.std(0)) / (z.sum(0)[:, None] + 1e-9)
        return [names[int(typical[s].argmax())] for s in np.argsort(-self.rate, kind="stable")]


def _begin(x: np.ndarray, wrong: np.ndarray, seed: int) -> np.ndarray:
    """The first P(S | x, l), 0 or 1, (n, S)."""
    share = int(np.clip(round(COMPONENTS * wrong.mean()), 1, COMPONENTS - 1))
    z, done = np.zeros((len(x), COMPONENTS)), 0
    for of, count in ((wrong, share), (~wrong, COMPONENTS - share)):
        rows = np.flatnonzero(of)
        z[rows, done + KMeans(min(count, len(rows)), n_init=1, random_state=seed).fit_predict(x[rows])] = 1
        done += count
    return z


def class_svms(features: np.ndarray, classes: np.ndarray, wrong: np.ndarray) -> dict[int, LinearSVC]:
    """For each class with FEW right and FEW wrong images, a linear SVM of wrong against right with weights as if both were as many.

    classes: int (n,), the labeller's answers, so that it serves images whose class nobody knows. Jain et al. take the true class."""
    found = {}
    for j in np.unique(classes):
        rows = np.flatnonzero(classes == j)
        if min(wrong[rows].sum(), (~wrong[rows]).sum()) >= FEW:
            found[int(j)] = LinearSVC(C=0.1, class_weight="balanced", random_state=0).fit(features[rows], wrong[rows])
    return found


def svm_loss(svms: dict[int, LinearSVC], rates: np.ndarray, features: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Scores (n,) of images: the decision of their class's SVM, above 0 for wrong, plus how often the class is wrong. rates: (M,)."""
    scores = rates[classes].astype(float)
    for j, svm in svms.items():
        rows = np.flatnonzero(classes == j)
        if len(rows):
            scores[rows] += svm.decision_function(features[rows])
    return scores


def svm_slices(svms: dict[int, LinearSVC], texts: np.ndarray, names: Sequence[str]) -> list[str]:
    """The texts (T, d) that the SVMs of most classes take for wrong, by the mean over classes of each one's cosine with the normals."""
    normals = np.stack([svm.coef_[0] / np.linalg.norm(svm.coef_[0]) for svm in svms.values()]) if svms else np.zeros((1, texts.shape[1]))
    return nearest(normals.mean(0), texts, names)


def ridge_slices(features: np.ndarray, loss: np.ndarray, texts: np.ndarray, names: Sequence[str]) -> list[str]:
    """The texts by their cosine with the direction along which the loss rises, the nearest first."""
    return nearest(RidgeCV(np.logspace(-3, 3, 13)).fit(features - features.mean(0), loss).coef_, texts, names)


def nearest(direction: np.ndarray, texts: np.ndarray, names: Sequence[str]) -> list[str]:
    """The names by the cosine of their texts, with their mean taken away, and a direction (d,)."""
    centred = texts - texts.mean(0)
    cosine = centred @ direction / np.linalg.norm(centred, axis=1)
    return [names[i] for i in np.argsort(-cosine, kind="stable")]
