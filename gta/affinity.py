"""The neighbour graph of the Laplacian term: w_ij = max(0, f_i . f_j) on k-nearest neighbours (TransCLIP, arXiv 2406.01837).

The search is exact, in bounded memory and O(N^2 d). One matrix product gives the cosines of a block of images. Each row keeps
a few candidates, and their cosines in float64 decide. If others may be as near, the cosines of all images in float64 decide.
So neither float32 nor the size of the block chooses a neighbour. Of equal cosines the lower index comes first.
"""

import torch
from torch import Tensor

SPARE = 4  # candidates beyond the neighbours asked for: the image itself, and some to choose from
ROUNDING = 8  # steps of the float type by which the matrix product may miss a cosine


@torch.no_grad()
def knn_graph(features: Tensor, support_features: Tensor | None = None, neighbors: int = 3, memory_mb: int = 128) -> Tensor:
    """Each image's nearest query images by cosine.

    features: (N, d) unit rows of the query images, any float dtype; support_features: (S, d) unit rows, or None.
    Returns a sparse COO (N + S, N), query rows first: row i holds max(0, cosine) at the `neighbors` query images
    nearest to image i, itself left out by its index, so an exact duplicate is a neighbour. With fewer than
    `neighbors` other images a row holds them all.
    memory_mb bounds the working memory, but for a copy of the features; crowded images take as much once more. It changes
    only the speed. Raises ValueError naming a row that is not unit.
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
def nearest(rows: Tensor, features: Tensor, k: int, *, own: Tensor | None = None, memory_mb: int = 128) -> tuple[Tensor, Tensor]:
    """Cosines and indices, (R, k) each, of the k rows of `features` (N, d) nearest to each of `rows` (R, d), nearest first.

    k is cut to N. own: (R,) the place in `features` of each row itself; it comes last, with cosine -inf.
    """
    n, d = features.shape
    some = min(k + SPARE, n)
    slack = ROUNDING * torch.finfo(features.dtype).eps
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


def unit_rows(name: str, rows: Tensor, like: Tensor | None = None) -> Tensor:
    """`rows` in float32 or better, or in the dtype and on the device of `like`. Raises ValueError where they are not unit."""
    if rows.ndim != 2 or len(rows) == 0 or not rows.is_floating_point():
        raise ValueError(f"{name} must be a float matrix with at least one row, not {tuple(rows.shape)} {rows.dtype}")
    if like is not None and rows.shape[1] != like.shape[1]:
        raise ValueError(f"{name} has {rows.shape[1]} columns and features has {like.shape[1]}; both must come from one encoder")
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32)) if like is None else rows.to(like)
    norm = torch.linalg.vector_norm(rows, dim=1)
    wrong = (~((norm - 1).abs() < 0.02)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        length = float(norm[row])
        mend = "divide each row by its norm" if 0 < length < torch.inf else "leave that row out, or encode it anew"
        raise ValueError(f"{name}[{row}] has norm {length:.4g}; rows must be finite and of unit norm: {mend}")
    return rows
