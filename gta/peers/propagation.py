"""ZLaP: label propagation from texts to images over their neighbour graph (CVPR 2024, arXiv 2404.04072, section 3).

Nodes are class texts and images. Each image has edges to its k nearest images, weight cosine, and to its k nearest texts, weight
cosine^gamma, since cosines across modalities are low and close; no text has an edge to a text; negative weights are 0.
With W symmetrised, S = D^-1/2 W D^-1/2, the score of class j at the images is that of L^-1 y_j, L = I - alpha S, y_j one at text j.
"""

import math

import torch
from torch import Tensor

from gta.affinity import nearest

NEIGHBORS, POWER, ALPHA = 5, 5.0, 0.3  # the paper's k, gamma and alpha in the transductive setting
TOLERANCE = 1e-10  # of what is left of the Neumann series, relative


@torch.no_grad()
def zlap(
    features: Tensor,
    classes: Tensor,
    *,
    neighbors: int = NEIGHBORS,
    power: float = POWER,
    alpha: float = ALPHA,
) -> Tensor:
    """Assignments (N, M): each image's class scores over their sum; equal where no text reaches an image.

    features: (N, d), classes: (M, d), unit rows; neighbors: 0 leaves the images without edges to one another.
    """
    n, m = len(features), len(classes)
    similarity, text = nearest(features, classes, max(1, neighbors))
    image = torch.arange(n, device=features.device)[:, None]
    edges = [(image.expand_as(text) + m, text, similarity.clamp_min(0) ** power)]
    if neighbors:
        similarity, neighbor = nearest(features, features, neighbors, own=image[:, 0])
        edges.append((image.expand_as(neighbor) + m, neighbor + m, similarity.clamp_min(0)))
    row, column, value = (torch.cat([part[k].flatten() for part in edges]) for k in range(3))
    both = torch.stack([torch.cat([row, column]), torch.cat([column, row])])
    degree = value.new_zeros(n + m).index_add_(0, both[0], value.repeat(2))
    scale = degree.clamp_min(torch.finfo(value.dtype).tiny).rsqrt()
    normalised = value.repeat(2) * scale[both[0]] * scale[both[1]]
    graph = torch.sparse_coo_tensor(both, normalised, (n + m, n + m), check_invariants=False).coalesce()

    # L^-1 = sum_t alpha^t S^t: no eigenvalue of S is beyond 1, so the terms left out are below alpha^T / (1 - alpha).
    start = torch.eye(n + m, m, dtype=value.dtype, device=value.device)
    scores = start
    for _ in range(math.ceil(math.log(TOLERANCE) / math.log(alpha)) if alpha else 0):
        scores = start + alpha * (graph @ scores)
    reached = scores[m:]
    total = reached.sum(1, keepdim=True)
    return torch.where(total > 0, reached / total.clamp_min(torch.finfo(value.dtype).tiny), 1 / m)
