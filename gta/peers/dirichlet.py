"""EM-Dirichlet: clusters of image-text distributions (Transductive Zero-Shot and Few-Shot CLIP, CVPR 2024, arXiv 2405.18437).

Images are points x_n = softmax(T cos) of the simplex; class k is a Dirichlet distribution with parameters alpha_k. The objective is
minimised over u and alpha in turn:

    - sum_nk u_nk ln p(x_n; alpha_k) + sum_nk u_nk ln u_nk - lambda sum_k pi_k ln pi_k,    pi_k = mean_n u_nk

The last term, the entropy of the class proportions, keeps the number of classes small. Each round fits alpha by
majorisation-minimisation, then sets u_n = softmax_k( ln p(x_n; alpha_k) + (lambda / N)(1 + ln pi_k) ). At the end each cluster gets a
different class, by the matching that is most probable under the mean distributions of the clusters.

The update of alpha uses ln Gamma(a) = ln Gamma(a + 1) - ln a. A parabola of curvature c is an upper bound of ln Gamma(a + 1), and the
tangent is an upper bound of - ln Gamma(sum a). So the minimum over each entry is the positive root of c a^2 + b a - 1.
"""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

TEMPERATURE = 0.3  # T divided by CLIP's logit scale: the paper's T = 30 for weights with a scale of 100
ROUNDS, STEPS = 20, 1000
TOLERANCE = 1e-11  # the fit of alpha ends at this squared relative change
EPS = 1e-15


@torch.no_grad()
def em_dirichlet(
    features: Tensor,
    classes: Tensor,
    scale: float,
    *,
    complexity: float | None = None,
    rounds: int = ROUNDS,
    steps: int = STEPS,
    tolerance: float = TOLERANCE,
) -> Tensor:
    """Assignments (N, M), in float64. features: (N, d), classes: (M, d), unit rows; scale: CLIP's logit scale.

    complexity: lambda, by default N: the paper's value is (M / k) N if k classes are expected among the images, and here k = M.
    rounds: updates of alpha and u; steps, tolerance: of the fit of alpha in each round, as in `fit`.
    """
    x = (TEMPERATURE * scale * features.double() @ classes.double().T).softmax(1)
    log_x = (x + EPS).log()
    weight = (len(x) if complexity is None else complexity) / len(x)
    u, alpha = x, torch.ones(len(classes), len(classes), dtype=x.dtype, device=x.device)
    for _ in range(rounds):
        counts = u.sum(0)
        means = (u.T @ log_x) / counts.clamp_min(EPS)[:, None]
        alpha = torch.where(counts[:, None] > EPS, fit(alpha, means, steps, tolerance), alpha)
        u = (log_density(log_x, alpha) + weight * (u.mean(0) + EPS).log()).softmax(1)  # softmax cancels the 1
    return u[:, own_classes(u, x)]


def log_density(log_x: Tensor, alpha: Tensor) -> Tensor:
    """ln p(x_n; alpha_k), (N, K), from logarithms of points (N, D) and parameters (K, D)."""
    return alpha.sum(1).lgamma() - alpha.lgamma().sum(1) + log_x @ (alpha - 1).T


def fit(alpha: Tensor, means: Tensor, steps: int = STEPS, tolerance: float = TOLERANCE) -> Tensor:
    """The maximum-likelihood Dirichlet parameters (K, D) of points with mean logarithms `means` (K, D). alpha: initial values.

    It makes at most `steps` updates, and stops earlier if the squared relative change is below `tolerance`.
    """
    for step in range(steps):
        slope = (alpha + 1).digamma()
        curvature = 2 * (slope * alpha - (alpha + 1).lgamma()) / alpha**2
        curvature = torch.where(alpha > 1e-6, curvature, torch.pi**2 / 6)  # the limit at 0, where the difference loses all digits
        b = slope - alpha.sum(1, keepdim=True).digamma() - curvature * alpha - means
        # The positive root, in the form without cancellation.
        root = (b.square() + 4 * curvature).sqrt()
        new = torch.where(b > 0, 2 / (b + root), (root - b) / (2 * curvature))
        change = (new - alpha).square().sum() / alpha.square().sum()
        alpha = new
        if step % 50 == 49 and change < tolerance:
            break
    return alpha


def own_classes(u: Tensor, x: Tensor) -> Tensor:
    """The cluster of each class, (M,): the matching with the largest sum of mean class probabilities of the clusters.

    u: (N, M) assignments to clusters; x: (N, M) class probabilities. An empty cluster prefers the class of its own number.
    """
    hard = torch.nn.functional.one_hot(u.argmax(1), u.shape[1]).to(x)
    counts = hard.sum(0)
    means = torch.where(counts[:, None] > 0, hard.T @ x / counts.clamp_min(1)[:, None], torch.eye(len(counts)).to(x) * EPS)
    cluster, label = linear_sum_assignment(means.cpu().numpy(), maximize=True)
    return torch.from_numpy(cluster[label.argsort()]).to(u.device)
