"""GPUA: a map from the space of a vision-only encoder to that of the texts, found without labels (ICML 2026, arXiv 2606.04385).

First correspondences (equations 4 to 12): P, (N, M), whose classes have equal sizes, and centroids C of the view Z, in turn

    P = Sinkhorn( (1 - lambda) Z C^T + lambda X Y^T, eps ),   C_k = sum_i P_ik z_i / sum_i P_ik

for features X of CLIP and class features Y. Then the map (equation 13): the isometry W0 that minimises ||Z W - P Y||, which is U V^T for
Z^T P Y = U S V^T. Then some steps down the loss of equation 16, with pseudo-labels l_i = argmax_k P_ik and the k prototypes N_i that are
nearest to W^T z_i:

    1 / (N k) sum_i sum_{c in N_i} max(0, |W^T z_i - y_{l_i}| + (1 - y_{l_i} . y_c) / s + h_c - |W^T z_i - y_c|)

h_c, the share of images that have c among their nearest, keeps a prototype from being near to all. The answer is cos(W^T z, y).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from gta.affinity import largest
from gta.checks import distributions, unit_rows
from gta.labels import answer
from gta.peers.fusion import TOLERANCE
from gta.transport import sinkhorn

WEIGHT, EPS = 0.9, 0.01  # lambda, the weight of CLIP; of the entropy
ROUNDS, ITERATIONS = 3, 50  # of P and C; of Sinkhorn, each time: the released code's, for the paper gives none
NEIGHBORS, SPREAD = 3, 2.0  # k and s: the released code's
STEPS, RATE, LAST_RATE, DECAY = 100, 5e-4, 1e-7, 5e-4  # of AdamW, whose rate falls along a cosine
LEAST = 1e-12  # of a squared distance, below which it has no gradient


def gpua(
    features: Tensor,
    view: Tensor,
    prior: Tensor,
    classes: Tensor,
    scale: float,
    *,
    weight: float = WEIGHT,
    eps: float = EPS,
    rounds: int = ROUNDS,
    iterations: int = ITERATIONS,
    steps: int = STEPS,
) -> Tensor:
    """Logits (N, M), in float64: `scale` times cos(W^T z, y), where W is fitted on these very images.

    features: X (N, d), view: Z (N, d_v), classes: Y (M, d), unit rows; prior: (N, M), rows sum to 1, with which P begins; weight: lambda;
    steps: on the loss of equation 16; 0 leaves W at the isometry. Raises ValueError for rows that are not unit and a view of other images.
    """
    x, z = (unit_rows(name, rows).double() for name, rows in {"features": features, "view": view}.items())
    y = unit_rows("classes", classes, like=x)
    if len(z) != len(x):
        raise ValueError(f"view has {len(z)} rows and features has {len(x)}; both need a row for each image")
    p = correspondences(x, z, distributions(prior, x), y, weight=weight, eps=eps, rounds=rounds, iterations=iterations)
    w = refined(isometry(z.T @ p @ y), z, answer(p), y, steps)
    return scale * F.normalize(z @ w, dim=1) @ y.T


def correspondences(x: Tensor, z: Tensor, prior: Tensor, y: Tensor, *, weight: float, eps: float, rounds: int, iterations: int) -> Tensor:
    """P (N, M), whose rows sum to 1 and whose classes are nearly of equal size, in float64; the arguments are those of `gpua`."""
    p, sizes, semantic = prior, torch.full_like(prior[0], 1 / prior.shape[1]), weight * x @ y.T
    for _ in range(rounds):
        centroids = p.T @ z / p.sum(0).clamp_min(torch.finfo(p.dtype).tiny)[:, None]
        p, _ = sinkhorn(((1 - weight) * z @ centroids.T + semantic) / eps, sizes, iterations=iterations, tolerance=TOLERANCE, warn=False)
    return p


def isometry(cross: Tensor) -> Tensor:
    """W (d_v, d) with orthonormal columns, or rows where d_v < d, that maximises tr(W^T cross).

    It is U V^T where `cross` has full rank. With fewer classes than dimensions many are as good, and give the same cosines up to a factor
    for each image; of those it is the one nearest to the identity, so that no library's choice of null vectors shows.
    """
    u, s, vt = torch.linalg.svd(cross)
    rank = int((s > s[0] * max(cross.shape) * torch.finfo(s.dtype).eps).sum())
    free_u, free_v = u[:, rank:], vt[rank:].T
    a, _, bt = torch.linalg.svd(free_u.T @ torch.eye(*cross.shape).to(cross) @ free_v, full_matrices=False)
    return u[:, :rank] @ vt[:rank] + free_u @ a @ bt @ free_v.T


def refined(w: Tensor, z: Tensor, labels: Tensor, y: Tensor, steps: int = STEPS) -> Tensor:
    """The map (d_v, d) after `steps` of AdamW down `hubness_loss` of all images z (N, d_v) with pseudo-labels (N,)."""
    w = w.clone().requires_grad_()
    optimizer = torch.optim.AdamW([w], lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps), LAST_RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        hubness_loss(z @ w, labels, y).backward()
        optimizer.step()
        schedule.step()
    return w.detach()


def hubness_loss(mapped: Tensor, labels: Tensor, y: Tensor, neighbors: int = NEIGHBORS, spread: float = SPREAD) -> Tensor:
    """Equation 16. mapped: W^T z (N, d); labels: (N,); y: (M, d) unit rows. What is nearest, and h, have no gradient."""
    products, norms = mapped @ y.T, y.square().sum(1)
    near = largest(2 * products.detach() - norms, min(neighbors, len(y)))
    share = torch.bincount(near.flatten(), minlength=len(y)).to(y) / len(mapped)
    chosen = torch.cat([labels[:, None], near], 1)
    squares = mapped.square().sum(1, keepdim=True) + norms[chosen] - 2 * products.gather(1, chosen)
    own, others = squares.clamp_min(LEAST).sqrt().split([1, near.shape[1]], dim=1)
    margin = (1 - (y @ y.T)[labels[:, None], near]) / spread
    return (own + margin + share[near] - others).clamp_min(0).mean()
