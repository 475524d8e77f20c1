"""The released neighbour graphs, for `affinity=`: misaligned rows, shots without their nearest image, negative cosines."""

import torch
from torch import Tensor

BLOCK = 1024  # rows of the graph that are compared with all images at once


def knn_graph(
    features: Tensor,
    support_features: Tensor | None = None,
    neighbors: int = 3,
    *,
    misaligned: bool = True,
    nearest_dropped: bool = True,
    negative: bool = True,
) -> Tensor:
    """The released graph. Each row leaves out the first of its nearest images, which a query image takes for itself.

    misaligned: support rows first, although `transduct` and the released solver expect query rows first; nearest_dropped: support
    rows lose their true nearest image; negative: negative cosines are kept. features: (N, d), support_features: (S, d), unit
    rows. Returns a sparse (N + S, N), for `affinity=`.
    """
    support = features[:0] if support_features is None else support_features
    rows = torch.cat([support, features] if misaligned else [features, support])
    best = [(block @ features.T).topk(neighbors + 1, dim=1) for block in rows.split(BLOCK)]
    of_support = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    of_support[slice(0, len(support)) if misaligned else slice(len(features), None)] = True
    first = (~of_support | nearest_dropped).long()[:, None] + torch.arange(neighbors, device=rows.device)
    values, columns = (torch.cat(part).gather(1, first) for part in zip(*best, strict=True))
    row = torch.arange(len(rows), device=rows.device)[:, None].expand_as(columns)
    values = values if negative else values.clamp_min(0)
    size = (len(rows), len(features))
    return torch.sparse_coo_tensor(torch.stack([row, columns]).flatten(1), values.flatten(), size, check_invariants=False)


def misaligned_graph(features: Tensor, support_features: Tensor | None = None, neighbors: int = 3) -> Tensor:
    """Of the released graph, only that support rows stand where `transduct` looks for query rows."""
    return knn_graph(features, support_features, neighbors, nearest_dropped=False, negative=False)


def graph_without_nearest(features: Tensor, support_features: Tensor | None = None, neighbors: int = 3) -> Tensor:
    """Of the released graph, only that a labelled image does not pull the query image that is nearest to it."""
    return knn_graph(features, support_features, neighbors, misaligned=False, negative=False)


def graph_with_negatives(features: Tensor, support_features: Tensor | None = None, neighbors: int = 3) -> Tensor:
    """Of the released graph, only that a neighbour with a negative cosine pushes its image away."""
    return knn_graph(features, support_features, neighbors, misaligned=False, nearest_dropped=False)
