"""StatA: transduction whose classes are held by their texts (Realistic Test-Time Adaptation, CVPR 2025, arXiv 2501.03729).

TransCLIP (`gta.transduct`) lets a class go wherever its images are, so a class without images takes some of another. Here each class has a
diagonal covariance of its own, and a penalty alpha KL( N(t_k, S') || N(mu_k, S_k) ) for leaving its anchor: the text feature t_k, and S',
the mean of (f_i - t_k)^2 over images and classes, weighted by the first prediction yhat. Its minimum over mu and S is closed:

    beta_k = n_k / (alpha + n_k)                      n_k images have class k
    mu_k = unit( beta_k unit( sum_i z_ik f_i ) + (1 - beta_k) t_k )
    S_k = beta_k sum_i z_ik (f_i - mu_k)^2 / sum_i z_ik + (1 - beta_k) (S' + (mu_k - t_k)^2)

With l_ik = -1/2 sum_d (f_id - mu_kd)^2 / S_kd, without the log-determinant, and TransCLIP's graph W, the labels are

    z_ik proportional to yhat_ik exp( l_ik / 50 + (1/6) sum_j (w_ij + w_ji) z_jk )

No (N, M, d) is ever held: l needs two products of (N, d) and (d, M), for f^2 and f; S_k needs Z^T F^2 and Z^T F.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from gta.affinity import both_ways, knn_graph
from gta.checks import distributions, not_negative, unit_rows
from gta.labels import answer
from gta.transduct import INNER, LAPLACIAN, ROUNDS
from gta.transduct.mixture import FLOOR, TEMPERATURE

ALPHA, NEIGHBORS = 1.0, 3  # the released code's, for every dataset


@torch.no_grad()
def stata(
    features: Tensor,
    prior: Tensor,
    classes: Tensor,
    *,
    alpha: float = ALPHA,
    neighbors: int = NEIGHBORS,
    rounds: int = ROUNDS,
    inner: int = INNER,
    hard: bool = True,
) -> Tensor:
    """Assignments (N, M), in float64: `rounds` of (`inner` Jacobi updates of z, then mu, then S), then a last set of z.

    features: (N, d) and classes: (M, d), unit rows; prior: yhat (N, M), rows sum to 1. alpha: how many images an anchor weighs; with
    very many mu and S stay at the anchor. hard: n_k counts the images whose likeliest class is k; otherwise it is sum_i z_ik.
    A class without images stays at its anchor. Raises ValueError for rows that are not unit and shapes that do not fit.
    """
    not_negative(alpha=alpha, rounds=rounds, inner=inner)
    x = unit_rows("features", features).double()
    texts, z, squares = unit_rows("classes", classes, like=x), distributions(prior, x).clone(), x.square()
    if z.shape[1] != len(texts):
        raise ValueError(f"prior has {z.shape[1]} columns and classes has {len(texts)} rows; both need one for each class")
    no_support = torch.empty(0, dtype=torch.long, device=x.device)
    graph, _ = both_ways(knn_graph(features, neighbors=neighbors), x, no_support, len(texts))
    log_prior = z.log()
    anchor = _scatter(z, x, squares, texts).sum(0) / len(x)
    mu, variances = texts, anchor.clamp_min(FLOOR).expand_as(texts)
    unary, logits = torch.empty_like(z), torch.empty_like(z)
    for step in range(rounds + 1):
        slope = mu / variances
        torch.addmm(-(mu * slope).sum(1) / 2, x, slope.T, out=unary)
        unary.addmm_(squares, 1 / variances.T, alpha=-0.5).div_(TEMPERATURE).add_(log_prior)
        for _ in range(inner):
            torch.softmax(torch.addmm(unary, graph, z, alpha=LAPLACIAN, out=logits), 1, out=z)
        if step == rounds:
            break
        mass = z.sum(0)
        count = torch.bincount(answer(z), minlength=len(texts)).to(x) if hard else mass
        beta = torch.where(count > 0, count / (alpha + count), 0)[:, None]
        mu = F.normalize(beta * F.normalize(z.T @ x, dim=1) + (1 - beta) * texts, dim=1)
        own = _scatter(z, x, squares, mu) / mass.clamp_min(torch.finfo(mass.dtype).tiny)[:, None]
        variances = (beta * own + (1 - beta) * (anchor + (mu - texts).square())).clamp_min(FLOOR)
    return z


def _scatter(z: Tensor, x: Tensor, squares: Tensor, mu: Tensor) -> Tensor:
    """sum_i z_ik (x_i - mu_k)^2, (M, d), from z (N, M), x and its squares (N, d), and mu (M, d)."""
    return z.T @ squares - mu * (2 * (z.T @ x) - z.sum(0)[:, None] * mu)
