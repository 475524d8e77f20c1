"""The neighbour graph of the Laplacian term: w_ij = max(0, f_i . f_j) on k-nearest neighbours (TransCLIP, arXiv 2406.01837)."""

import torch
from torch import Tensor


def knn_graph(features: Tensor, support_features: Tensor | None = None, neighbors: int = 3, memory_mb: int = 256) -> Tensor:
    """Each image's nearest query images by cosine, exactly, in bounded memory.

    features: (N, d) unit rows of the query images; support_features: (S, d) unit rows, or None.
    Returns a sparse COO (N + S, N), query rows first: row i holds max(0, cosine) at the `neighbors` query images
    nearest to image i, itself left out by its index, so an exact duplicate is a neighbour. With fewer than
    `neighbors` other images a row holds them all.
    memory_mb bounds the block of similarities held at once; it changes nothing but speed.
    """
    n = len(features)
    rows = features if support_features is None else torch.cat([features, support_features.to(features)])
    block = max(1, memory_mb * 2**20 // (n * features.element_size()))
    values, columns = [], []
    for start in range(0, len(rows), block):
        cosines = rows[start : start + block] @ features.T
        own = torch.arange(start, min(start + block, n), device=features.device)
        cosines[own - start, own] = -torch.inf
        best = cosines.topk(min(neighbors, n), dim=1)
        values.append(best.values)
        columns.append(best.indices)
    value, column = torch.cat(values), torch.cat(columns)
    row = torch.arange(len(rows), device=features.device)[:, None].expand_as(column)
    kept = value > 0
    indices = torch.stack([row[kept], column[kept]])
    return torch.sparse_coo_tensor(indices, value[kept], (len(rows), n), check_invariants=False)
