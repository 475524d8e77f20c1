"""OTFusion: one balanced plan for the text prior and a mixture of each encoder (arXiv 2506.13723, third version, there named SOTA).

Every view v of the images, features X_v of one encoder, has a mixture with unit means mu_v and one diagonal variance s_v for all classes:

    P_v = softmax( -1/2 sum_d (x_d - mu_kd)^2 / s_d / 50 )

All views and the text prior yhat give one matrix, F = sum_v a_v P_v + yhat, with sum_v a_v = 1. The plan z minimises
-<z, F> - eps H(z) where each class has N / M images (Sinkhorn). The weights a_v are as the numbers of images whose label is the same in
P_v and z; then means and variances are those of the images under z. These are the steps of its authors' code, and docs/peers.md says
what was read.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from gta.checks import distributions, unit_rows
from gta.labels import answer
from gta.transduct.mixture import FLOOR, TEMPERATURE, confident_sums
from gta.transport import sinkhorn

EPS, ROUNDS, ITERATIONS = 0.01, 10, 15  # of the entropy; of plan and mixtures; of Sinkhorn, each time
TOLERANCE = 1e-5  # Sinkhorn ends before if no class is off its size by more, as a share of it
LEAST = 1e-8  # images that a view agrees on at least


@torch.no_grad()
def fusion(
    features_of_views: Sequence[Tensor], prior: Tensor, *, eps: float = EPS, rounds: int = ROUNDS, iterations: int = ITERATIONS
) -> Tensor:
    """Assignments z (N, M), in float64: the plan of the last round.

    features_of_views: unit rows (N, d_v) of each encoder, that of the prior among them; prior: yhat (N, M), rows sum to 1.
    `iterations` belong to the method: classes then have nearly, not exactly, N / M images, and nobody is warned.
    Raises ValueError without views, for rows that are not unit and for a view of other images.
    """
    if not features_of_views:
        raise ValueError("features_of_views is empty; give the features of at least one encoder")
    views = [unit_rows(f"features_of_views[{v}]", x).double() for v, x in enumerate(features_of_views)]
    for v, x in enumerate(views):
        if len(x) != len(prior):
            raise ValueError(f"features_of_views[{v}] has {len(x)} rows and prior has {len(prior)}; both need a row for each image")
    prior = z = distributions(prior, views[0])
    sizes = torch.full_like(prior[0], 1 / prior.shape[1])
    weights = prior.new_full((len(views),), 1 / len(views))
    for step in range(rounds):
        mixtures = [_fitted(x, z) if step else _first(x, prior) for x in views]
        posteriors = [_posterior(x, *mixture) for x, mixture in zip(views, mixtures, strict=True)]
        gain = prior + sum(weight * posterior for weight, posterior in zip(weights, posteriors, strict=True))
        z, _ = sinkhorn(gain / eps, sizes, iterations=iterations, tolerance=TOLERANCE, warn=False)
        agreed = torch.stack([(answer(posterior) == answer(z)).sum() for posterior in posteriors]).to(z).clamp_min(LEAST)
        weights = agreed / agreed.sum()
    return z


def _first(x: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of the 8 most confident images of each class, weighted by the prior, set to unit norm; variances 1 / d."""
    return F.normalize(confident_sums(x, prior)[0], dim=1), torch.full_like(x[0], 1 / x.shape[1])


def _fitted(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Unit means (M, d), and the mean of (x - mu)^2 over images and classes weighted by z, (d,), from the class sums alone."""
    counts, sums = z.sum(0)[:, None], z.T @ x
    mu = F.normalize(sums, dim=1)
    variance = x.square().mean(0) - (mu * (2 * sums - counts * mu)).sum(0) / len(x)
    return mu, variance.clamp_min(FLOOR)


def _posterior(x: Tensor, mu: Tensor, variance: Tensor) -> Tensor:
    """P_v (N, M); x^2 / variance is the same for all classes and cancels."""
    slope = mu / (TEMPERATURE * variance)
    return torch.addmm(-(mu * slope).sum(1) / 2, x, slope.T).softmax(1)
