"""Clustering from scikit-learn, started at the class texts: what transduction is worth without a text prior or a graph."""

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture
from torch import Tensor


def k_means(features: Tensor, classes: Tensor, scale: float) -> Tensor:
    """Assignments (N, M): softmax of -`scale` times half the squared distances to the centres that k-means ends with.

    features: (N, d) and classes: (M, d), unit rows. The largest entry of a row is the label that k-means itself gives.
    """
    fitted = KMeans(len(classes), init=_array(classes), n_init=1).fit(_array(features))
    centres = torch.from_numpy(fitted.cluster_centers_).to(features)
    # -|f - c|^2 / 2 = f.c - |c|^2 / 2 but for what is the same for all classes: the largest entry is k-means' own label.
    return (scale * (features @ centres.T - centres.square().sum(1) / 2)).softmax(1)


def gaussian_mixture(features: Tensor, classes: Tensor) -> Tensor:
    """Assignments (N, M): the posterior of a mixture with a diagonal covariance a class, started at the class texts.

    The first variances are 1 / d and the first weights equal, so that the first labels are those of CLIP.
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
