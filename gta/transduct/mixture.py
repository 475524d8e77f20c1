"""The Gaussian mixture of transduct: means of unit norm and one diagonal variance, from sums over images alone.

Where features f_i have weights z_ij, all that mu and sigma need of them is sum_i z_ij, sum_i z_ij f_i and the variance of f
(GTA-CLIP, arXiv 2501.06031; TransCLIP, arXiv 2406.01837). So how z is held, whole or its largest entries, makes no difference here.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gta.affinity import largest
from gta.checks import class_numbers, unit_rows
from gta.labels import log_odds

TEMPERATURE = 50.0  # divides the Gaussian log-likelihood
CONFIDENT = 8  # images that initialise a prototype
FLOOR = 1e-10  # of a variance, where images do not differ at all


def confident_sums(x: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
    """Of the 8 most confident images of each class, features weighted by the prior, (M, d), and the weights, (M,): their sums."""
    top = largest(log_odds(prior.log()).T, min(CONFIDENT, len(x)))
    confidence = prior.T.gather(1, top)
    return (confidence[:, :, None] * x[top]).sum(1), confidence.sum(1)


def unit_means(sums: Tensor, counts: Tensor, otherwise: Tensor, widths: Sequence[int]) -> Tensor:
    """The means sums / counts, set to unit norm in each view; `otherwise` for a class to which no image belongs."""
    kind = torch.finfo(sums.dtype)
    means = sums / counts[:, None].clamp_min(kind.tiny / kind.eps)
    in_views = []
    for mean, before in zip(means.split(list(widths), 1), otherwise.split(list(widths), 1), strict=True):
        norm = mean.norm(dim=1, keepdim=True)
        in_views.append(torch.where(norm > kind.eps, mean / norm, before))
    return torch.cat(in_views, 1)


def within_variance(spread: Tensor, centre: Tensor, counts: Tensor, sums: Tensor, mu: Tensor, total: float = 1.0) -> Tensor:
    """The mean of (f - mu)^2 over images and classes, weighted by z, (d,): spread is that of (f - centre)^2."""
    from_centre, shift = sums - counts[:, None] * centre, mu - centre
    return spread - (shift * (2 * from_centre - counts[:, None] * shift)).sum(0) / total


def class_sums(support: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """How many support images each class has, (M,), and the sum of their features, (M, d)."""
    counts = torch.bincount(labels, minlength=classes).to(support.dtype)
    return counts, support.new_zeros(classes, support.shape[1]).index_add_(0, labels, support)


def support_of(x: Tensor, classes: int, features: Tensor | None, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Support features and labels; both empty in the zero-shot setting."""
    if features is None and labels is None:
        return x[:0], torch.empty(0, dtype=torch.long, device=x.device)
    if features is None or labels is None:
        raise ValueError("support_features and support_labels go together: one of them is missing")
    features = unit_rows("support_features", features, like=x)
    return features, class_numbers("support_labels", labels, len(features), classes).to(x.device)
