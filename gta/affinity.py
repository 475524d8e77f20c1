"""The neighbour graph of the Laplacian term: w_ij = max(0, f_i . f_j) on k-nearest neighbours (TransCLIP, arXiv 2406.01837).

The search is exact, in bounded memory and O(N^2 d). One matrix product gives the cosines of a block of images. Each row keeps
a few candidates, and their cosines in float64 decide. If others may be as near, the cosines of all images in float64 decide.
So neither float32 nor the size of the block chooses a neighbour. Of equal cosines the lower index comes first.
"""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gta.checks import unit_rows

SAMPLE = 2000  # images by which two encoders are compared, so that a large data set costs one search for neighbours and not two
SPARE = 4  # candidates beyond the neighbours asked for: the image itself, and some to choose from
ROUNDING = 8  # steps of the float type by which the matrix product may miss a cosine

Build = Callable[[Tensor, Tensor | None, int], Tensor]  # from features, support features and the number of neighbours to a graph
Rows = tuple[Tensor, Tensor]  # features of query images (N, d) and of support images (S, d)


@torch.no_grad()
def knn_graph(features: Tensor, support_features: Tensor | None = None, neighbors: int = 3, memory_mb: int | None = None) -> Tensor:
    """Each image's nearest query images by cosine.

    features: (N, d) unit rows of the query images, any float dtype; support_features: (S, d) unit rows, or None.
    Returns a sparse COO (N + S, N), query rows first: row i holds max(0, cosine) at the `neighbors` query images
    nearest to image i, itself left out by its index, so an exact duplicate is a neighbour. With fewer than
    `neighbors` other images a row holds them all.
    memory_mb bounds the working memory, but for a copy of the features; crowded images take as much once more. By default it is 128, and
    2048 on a GPU. It changes only the speed. Raises ValueError naming a row that is not unit.
    """
    if neighbors < 1:
        raise ValueError(f"neighbors is {neighbors}; a graph needs at least 1")
    x = unit_rows("features", features)
    value, column = nearest(x, x, neighbors, own=torch.arange(len(x), device=x.device), memory_mb=memory_mb)
    if support_features is not None:
        support = unit_rows("support_features", support_features, like=x)
        of_support = nearest(support, x, neighbors, memory_mb=memory_mb)
        value, column = torch.cat([value, of_support[0]]), torch.cat([column, of_support[1]])
    row = torch.arange(len(value), device=x.device)[:, None].expand_as(column)
    kept = value > 0
    return torch.sparse_coo_tensor(torch.stack([row[kept], column[kept]]), value[kept], (len(value), len(x)), check_invariants=False)


@torch.no_grad()
def nearest(rows: Tensor, features: Tensor, k: int, *, own: Tensor | None = None, memory_mb: int | None = None) -> tuple[Tensor, Tensor]:
    """Cosines and indices, (R, k) each, of the k rows of `features` (N, d) nearest to each of `rows` (R, d), nearest first.

    k is cut to N. own: (R,) the place in `features` of each row itself; it comes last, with cosine -inf.
    """
    n, d = features.shape
    some = min(k + SPARE, n)
    slack = ROUNDING * torch.finfo(features.dtype).eps
    memory_mb = memory_mb or (2048 if features.is_cuda else 128)
    block = max(1, memory_mb * 2**20 // (3 * n * features.element_size() // 2 + 20 * some * d))
    values, indices = features.new_empty(len(rows), min(k, n)), rows.new_empty(len(rows), min(k, n), dtype=torch.long)
    room = features.new_empty(min(block, len(rows)), n)
    for start in range(0, len(rows), block):
        images = rows[start : start + block]
        place = None if own is None else own[start : start + block]
        cosines = torch.mm(images, features.T, out=room[: len(images)])
        candidates = largest(cosines, some, slack).sort(dim=1).values
        cut = cosines.gather(1, candidates).amin(1)
        exact = features[candidates].double().mul_(images[:, None]).sum(2)
        if place is not None:
            exact[candidates == place[:, None]] = -torch.inf
        best = exact.sort(dim=1, descending=True, stable=True)  # candidates stand by index, so do equals among them
        value, index = best.values[:, :k], candidates.gather(1, best.indices[:, :k])
        crowded = (value[:, -1] <= cut + 3 * slack).nonzero()[:, 0]  # an image that is no candidate may be as near
        if len(crowded) and some < n and features.dtype != torch.float64:  # so all again, in float64
            place = None if place is None else place[crowded]
            value[crowded], index[crowded] = nearest(images[crowded].double(), features.double(), k, own=place, memory_mb=memory_mb)
        values[start : start + block], indices[start : start + block] = value, index
    return values, indices


def largest(values: Tensor, k: int, slack: float = 0.0) -> Tensor:
    """Indices (R, k), in no order, of the k largest of each row of (R, N), k <= N; of equal values the lower index.

    topk alone promises nothing about equals. Values within `slack` of the k-th count as equal to it.
    """
    n = values.shape[1]
    best = values.topk(min(k + 1, n), dim=1)
    chosen = best.indices[:, :k]
    if k < n:
        tied = (best.values[:, k] >= best.values[:, k - 1] - slack).nonzero()[:, 0]
        place = torch.arange(n, 0, -1, device=values.device, dtype=torch.int32)  # the first index ranks highest
        for some in tied.split(max(1, len(values) // 8)):  # in parts, for their ranks take more memory than the values
            value, last = values[some], best.values[some, k - 1 : k]
            rank = torch.where(value < last - slack, 0, place)
            rank = torch.where(value > last + slack, place + n, rank)
            chosen[some] = rank.topk(k, dim=1).indices
    return chosen


def both_ways(affinity: Tensor, x: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """W + W^T among query images, and the constant pull of the support images on them, (N, M); both sparse."""
    n, s = len(x), len(labels)
    if tuple(affinity.shape) not in ((n, n), (n + s, n)):
        raise ValueError(f"affinity has shape {tuple(affinity.shape)}, expected ({n}, {n}) or, query rows first, ({n + s}, {n})")
    coo = affinity.to_sparse_coo().to(x).coalesce()
    (row, column), value = coo.indices(), coo.values()
    if not value.isfinite().all():
        raise ValueError(f"affinity has a weight that is not finite in row {int(row[~value.isfinite()][0])}; set it to 0")
    query = row < n
    both = torch.stack([torch.cat([row[query], column[query]]), torch.cat([column[query], row[query]])])
    graph = torch.sparse_coo_tensor(both, value[query].repeat(2), (n, n), check_invariants=False).coalesce()
    with warnings.catch_warnings():  # CSR multiplies faster than COO, and warns of being in beta
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        graph = graph.to_sparse_csr()
    of_support = torch.stack([column[~query], labels[row[~query] - n]])
    return graph, torch.sparse_coo_tensor(of_support, value[~query], (n, classes), check_invariants=False).coalesce()


def graph_of(views: Sequence[Rows], prior: Tensor, neighbors: int, build: Build | None = None) -> Tensor:
    """The neighbour graph of one encoder, or of two that of the smoother. build: in place of `knn_graph`."""
    features, support = smoother(views[0], views[1], prior, neighbors) if len(views) > 1 else views[0]
    return (build or knn_graph)(features, support if len(support) else None, neighbors)


@torch.no_grad()
def smoother(first: Rows, second: Rows, prior: Tensor, neighbors: int = 3) -> Rows:
    """Of two encoders the one whose neighbours agree more on the prior, the first where they agree alike.

    The agreement of an encoder is the mean of prior_i . prior_k over images i and their nearest neighbours k: how probable it is that
    the two have one class. All images are compared, or, of more than `SAMPLE`, those that the bits of the first features draw; with all
    as neighbours.
    """
    rows = _drawn(first[0])
    return second if agreement(second[0], prior, rows, neighbors) > agreement(first[0], prior, rows, neighbors) else first


def agreement(features: Tensor, prior: Tensor, rows: Tensor, neighbors: int = 3) -> float:
    """The mean of prior_i . prior_k over the images `rows` (n,) and their nearest neighbours. features: (N, d) unit rows; prior: (N, M)."""
    near = nearest(features[rows], features, neighbors, own=rows)[1]
    return float((prior[rows][:, None] * prior[near]).sum(2).mean())


def _drawn(features: Tensor) -> Tensor:
    """The rows of at most `SAMPLE` images, (n,), drawn by the bits of their features (N, d): the order of images plays no part."""
    if len(features) <= SAMPLE:
        return torch.arange(len(features), device=features.device)
    odd = torch.arange(1, 2 * features.shape[1], 2, device=features.device) * 2654435761
    parts = features.split(4096)  # for the bits take twice the memory of the features
    mixed = torch.cat([(part.float().contiguous().view(torch.int32).long() * odd).sum(1) % 2147483647 for part in parts])
    return mixed.argsort(stable=True)[:SAMPLE].sort().values
