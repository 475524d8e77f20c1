"""Class sizes, between free and given: entropic transport of images to classes (Sinkhorn; Cuturi, arXiv 1306.0895).

z = softmax(logits) gives each class as many images as it takes. Here each class has a wanted share, and z minimises

    sum_i z_i . (log z_i - logits_i)  +  rho N KL( mean_i z_i || sizes ),   each row of z sums to 1,

so that z_ij is proportional to exp(logits_ij + v_j) with one potential v_j a class. strength = rho / (1 + rho) in [0, 1]: at 0 the
sizes are free and v is 0, at 1 they hold exactly (Chizat et al., arXiv 1607.05816, equation for KL-relaxed marginals).
"""

import math
import warnings

import torch
from torch import Tensor

ITERATIONS, TOLERANCE = 1000, 1e-3


@torch.no_grad()
def sinkhorn(
    logits: Tensor,
    sizes: Tensor,
    strength: float = 1.0,
    *,
    start: Tensor | None = None,
    iterations: int = ITERATIONS,
    tolerance: float = TOLERANCE,
    warn: bool = True,
) -> tuple[Tensor, Tensor]:
    """z (N, M), whose rows sum to 1, and the potential v (M,) with z = softmax(logits + v).

    logits: (N, M), float; sizes: (M,) shares of the classes, each above 0, sum 1; start: a potential to begin with. It ends when no
    potential moves by more than `tolerance`, and with it no class's wanted size by a larger factor. Warns if it does not get there in
    `iterations`, unless `warn` is False.
    """
    sizes = shares(sizes, logits)
    if not 0 <= strength <= 1:
        raise ValueError(f"balance is {strength}; 0 leaves the sizes of classes free, and 1 holds them")
    v = torch.zeros_like(sizes) if start is None else start
    wanted, z, moved = sizes.log(), torch.empty_like(logits), float("inf")
    for _ in range(iterations):
        torch.softmax(logits + v, 1, out=z)
        taken = z.mean(0).clamp_min(torch.finfo(z.dtype).tiny).log() - v  # log of the mass that a class takes at potential 0
        new = strength * (wanted - taken)
        moved, v = float((new - v).abs().max()), new
        if moved <= tolerance:
            break
    else:
        if warn:
            off = f"a class is off its size by {100 * math.expm1(min(moved, 700)):.2g} %"
            warnings.warn(f"Sinkhorn did not converge in {iterations} iterations: {off}", RuntimeWarning, stacklevel=2)
    return torch.softmax(logits + v, 1, out=z), v


@torch.no_grad()
def estimated_sizes(prior: Tensor, iterations: int = ITERATIONS, tolerance: float = TOLERANCE) -> Tensor:
    """The shares of the classes, (M,), under which predictions made for equal shares are likeliest (Saerens et al., 2002, equation 2.9).

    prior: (N, M), rows sum to 1. Expectation-maximisation: sizes_j <- mean_i prior_ij sizes_j / sum_k prior_ik sizes_k. Half an image is
    added to each class, so that none is ruled out.
    """
    n, classes = prior.shape
    sizes = prior.new_full((classes,), 1 / classes)
    for _ in range(iterations):
        joint = prior * sizes
        taken = (joint / joint.sum(1, keepdim=True)).sum(0)
        new = (taken + 0.5) / (n + 0.5 * classes)
        moved, sizes = float((new - sizes).abs().max() * classes), new
        if moved <= tolerance:
            break
    return sizes


def shares(sizes: Tensor, like: Tensor) -> Tensor:
    """`sizes` as shares in the dtype of `like` (N, M). Raises ValueError unless they are M numbers above 0 with sum 1."""
    sizes = torch.as_tensor(sizes).to(like)
    if sizes.shape != like.shape[1:]:
        raise ValueError(f"sizes has shape {tuple(sizes.shape)}, expected ({like.shape[1]},): a share for each class")
    if not (sizes > 0).all() or abs(float(sizes.sum()) - 1) > 1e-3:
        least = int(sizes.argmin())
        found = f"sizes[{least}] is {float(sizes[least]):.3g}, and the sum is {float(sizes.sum()):.4g}"
        mend = "divide counts by their sum, and leave a class without images off the list of names"
        raise ValueError(f"sizes must be above 0 and sum to 1, but {found}: {mend}")
    return sizes
