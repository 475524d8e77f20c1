"""ZLaP: label propagation from texts to images over their neighbour graph (CVPR 2024, arXiv 2404.04072, section 3).

Nodes are class texts and images. Each image has edges to its k nearest images, with weight cosine, and to its k nearest texts, with
weight cosine^gamma, because cosines between modalities are small and similar. There are no edges between texts, and negative weights
are 0. W is symmetrised, S = D^-1/2 W D^-1/2, and L = I - alpha S. The scores of class j are the entries of L^-1 y_j at the images,
where y_j is 1 at text j and 0 elsewhere.
"""

import math

import torch
from torch import Tensor

from gta.affinity import nearest

NEIGHBORS, POWER, ALPHA = 5, 5.0, 0.3  # the paper's k, gamma and alpha in the transductive setting
TOLERANCE = 1e-10  # relative size of the omitted terms of the Neumann series


@torch.no_grad()
def zlap(
    features: Tensor,
    classes: Tensor,
    *,
    neighbors: int = NEIGHBORS,
    power: float = POWER,
    alpha: float = ALPHA,
) -> Tensor:
    """Assignments (N, M): the class scores of each image, divided by their sum. They are equal if no path leads from a text to the image.

    features: (N, d), classes: (M, d), unit rows; neighbors: k of the image graph; 0 means no edges between images.
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

    # L^-1 = sum_t alpha^t S^t. No eigenvalue of S exceeds 1 in size, so the omitted terms are below alpha^T / (1 - alpha).
    start = torch.eye(n + m, m, dtype=value.dtype, device=value.device)
    scores = start
    for _ in range(math.ceil(math.log(TOLERANCE) / math.log(alpha)) if alpha else 0):
        scores = start + alpha * (graph @ scores)
    reached = scores[m:]
    total = reached.sum(1, keepdim=True)
    return torch.where(total > 0, reached / total.clamp_min(torch.finfo(value.dtype).tiny), 1 / m)
