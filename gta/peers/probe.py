"""Linear probe: logistic regression on the features of labelled images (CLIP, arXiv 2103.00020, section 3.2).

With all training images, it is the supervised upper bound of a frozen encoder.
"""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from gta.peers.cache import best

STRENGTHS = tuple(10.0**k for k in range(-3, 7))  # values of C; validation images choose one
DEFAULT = 0.316  # C of the CLIP paper's ImageNet probe; used without validation images


def linear_probe(features: Tensor, support: Tensor, labels: Tensor, classes: int, strength: float = DEFAULT) -> Tensor:
    """Logits (N, M). A class without a support image gets the lowest logit of each row.

    features: (N, d), support: (S, d); labels: (S,) in 0..M-1; strength: C, the inverse of the L2 penalty.
    """
    model = LogisticRegression(C=strength, max_iter=1000, tol=1e-6).fit(support.double().cpu().numpy(), labels.cpu().numpy())
    decided = model.decision_function(features.double().cpu().numpy())
    if decided.ndim == 1:  # for two classes, scikit-learn gives only the second one
        decided = np.stack([-decided, decided], 1) / 2
    logits = np.repeat(decided.min(1, keepdims=True), classes, 1)
    logits[:, model.classes_] = decided
    return torch.from_numpy(logits).to(features)


def best_strength(support: Tensor, labels: Tensor, val_features: Tensor, val_labels: Tensor, classes: int) -> float:
    """The C with the most correct validation images. If several are equal, `DEFAULT`, else the smallest."""

    def logits(strength: float) -> Tensor:
        return linear_probe(val_features, support, labels, classes, strength)

    return best(logits, val_labels, {"strength": DEFAULT}, strength=STRENGTHS)["strength"]
