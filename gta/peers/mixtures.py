"""scikit-learn's clustering with the class texts as initial centres: transduction without a text prior and without a graph."""

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture
from torch import Tensor


def k_means(features: Tensor, classes: Tensor, scale: float) -> Tensor:
    """Assignments (N, M): the softmax of -`scale` times half the squared distances to the final centres of k-means.

    features: (N, d) and classes: (M, d), unit rows. The largest entry of a row is the label of k-means.
    """
    fitted = KMeans(len(classes), init=_array(classes), n_init=1).fit(_array(features))
    centres = torch.from_numpy(fitted.cluster_centers_).to(features)
    # -|f - c|^2 / 2 = f.c - |c|^2 / 2 - |f|^2 / 2; the last term is the same for all classes, so softmax cancels it.
    return (scale * (features @ centres.T - centres.square().sum(1) / 2)).softmax(1)


def gaussian_mixture(features: Tensor, classes: Tensor) -> Tensor:
    """Assignments (N, M): the posterior of a Gaussian mixture with one diagonal covariance for each class, and class texts as initial
    means.

    The initial variances are 1 / d and the initial weights are equal, so that the initial labels are those of CLIP.
    """
    m, d = classes.shape
    mixture = GaussianMixture(
        m,
        covariance_type="diag",
        reg_covar=1e-5,
        max_iter=100,
        means_init=_array(classes),
        weights_init=np.full(m, 1 / m),
        precisions_init=np.full((m, d), float(d)),
    )
    return torch.from_numpy(mixture.fit(_array(features)).predict_proba(_array(features))).to(features)


def _array(rows: Tensor) -> np.ndarray:
    return rows.double().cpu().numpy()
