"""The neighbour graph of many images, by an inverted file of faiss (arXiv 2401.08281): only images in near cells are compared.

Exact search grows with N^2. Up to `EXACT` images, and on a GPU up to `EXACT_ON_GPU`, it is what `gta.affinity.knn_graph` does; beyond too
where faiss is not installed, which is told. Else images are put into about
2 sqrt(N) cells, and an image is compared with those of its nearest cells: of so many that of 500 images, drawn evenly, the share of
true neighbours that are found, the recall, is at least 0.95. Both numbers are told. `gta.loop.run(..., affinity=large_graph)` takes it.
"""

import sys
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from gta.affinity import knn_graph, nearest
from gta.checks import unit_rows

EXACT = 100_000  # images up to which exact search is fast enough: some minutes on two cores
EXACT_ON_GPU = 2_000_000  # likewise: one million take 35 s on an H200 (results/benchmarks/gpu.csv)
RECALL = 0.95
JUDGES = 500  # images whose true neighbours are looked up
PER_CELL = 40  # images a cell that train its centre, as faiss advises
PART = 20_000  # images that are searched at once


@torch.no_grad()
def large_graph(features: Tensor, support_features: Tensor | None = None, neighbors: int = 3, exact: bool | None = None) -> Tensor:
    """The graph of `gta.affinity.knn_graph`, with the same arguments and form; approximate for many images, or as `exact` says.

    Where it is approximate, weights are exact cosines in float32 and, of images that are compared, the nearest are found; of equals in no
    order. It then holds a copy of the features. Raises ModuleNotFoundError for exact=False without faiss, and says what to install.
    """
    if _choose(features) if exact is None else exact:
        return knn_graph(features, support_features, neighbors)
    x = unit_rows("features", features)
    index = _Cells(x, neighbors)
    queries = [x] if support_features is None else [x, unit_rows("support_features", support_features, like=x)]
    found = [index.search(part, neighbors, own=number == 0) for number, part in enumerate(queries)]
    value, column = (torch.cat(of) for of in zip(*found, strict=True))
    row = torch.arange(len(value))[:, None].expand_as(column)
    kept = (column >= 0) & (value > 0)
    shape = (len(value), len(x))
    return torch.sparse_coo_tensor(torch.stack([row[kept], column[kept]]), value[kept].to(x), shape, check_invariants=False).to(x.device)


@torch.no_grad()
def large_nearest(features: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Cosines and places, (N, k) each, of the images nearest to each image of unit features (N, d), itself left out; likewise approximate
    for many images. A place is -1 where too few images are in the cells."""
    if _choose(features):
        return nearest(features, features, k, own=torch.arange(len(features), device=features.device))
    return _Cells(features, k).search(features, k, own=True)


def exactly(images: int, on_gpu: bool) -> bool:
    """Whether neighbours of so many images are searched exactly: it is fast enough, or all that there is."""
    return _few(images, on_gpu) or find_spec("faiss") is None


def _few(images: int, on_gpu: bool) -> bool:
    return images <= (EXACT_ON_GPU if on_gpu else EXACT)


def _choose(features: Tensor) -> bool:
    images, chosen = len(features), exactly(len(features), features.is_cuda)
    if chosen and not _few(images, features.is_cuda):
        _tell_once(f"neighbours of {images:,} images: searched exactly, for faiss is missing; pip install 'gta-clip[scale]' is much faster")
    return chosen


@cache
def _tell_once(line: str) -> None:
    print(line, file=sys.stderr)


class _Cells:
    """The inverted file. All is in float32 on the CPU."""

    def __init__(self, x: Tensor, neighbors: int):
        try:
            import faiss
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                f"faiss is missing, which finds the neighbours of {len(x):,} images: pip install 'gta-clip[scale]', or omit exact=False"
            ) from None
        n, d = x.shape
        cells = max(1, min(int(2 * n**0.5), n // PER_CELL))
        self.centres = faiss.IndexFlatIP(d)
        self.index = faiss.IndexIVFFlat(self.centres, d, cells, faiss.METRIC_INNER_PRODUCT)
        self.index.cp.seed, self.index.cp.niter = 0, 10
        x = x.float().cpu()
        self.index.train(x[:: max(1, n // (PER_CELL * cells))].numpy())
        for part in x.split(PART):
            self.index.add(part.numpy())
        self.recall = self._probe(x, neighbors)
        told = f"neighbours: {self.index.nprobe} of {cells:,} cells compared, recall {self.recall:.3f} on {min(JUDGES, n)} images"
        print(told, file=sys.stderr)

    def search(self, rows: Tensor, k: int, own: bool = False) -> tuple[Tensor, Tensor]:
        """Cosines and places, (R, k), of the nearest images; -1 where too few are in the cells. own: the rows are the images themselves,
        in order, and none is its own neighbour."""
        found = [self._some(part.float().cpu(), k, torch.arange(len(part)) + start if own else None) for start, part in _parts(rows)]
        value, column = (torch.cat(of) for of in zip(*found, strict=True))
        return value, column

    def _some(self, rows: Tensor, k: int, places: Tensor | None) -> tuple[Tensor, Tensor]:
        near = torch.from_numpy(self.centres.search(rows.numpy(), 1)[1])[:, 0].argsort()  # images of a cell one after the other
        value, column = (torch.from_numpy(of)[near.argsort()] for of in self.index.search(rows[near].numpy(), k + (places is not None)))
        if places is None:
            return value, column
        itself = column == places[:, None]
        itself[:, -1] |= ~itself.any(1)  # not among its nearest, if exact copies are: then the farthest goes
        return value[~itself].view(-1, k), column[~itself].view(-1, k)

    def _probe(self, x: Tensor, neighbors: int) -> float:
        """Compare twice as many cells until the recall is high enough. A neighbour is found if its cosine is: copies are alike."""
        judges = torch.arange(0, len(x), max(1, len(x) // JUDGES))[:JUDGES]
        true = nearest(x[judges], x, neighbors, own=judges)[0]
        while True:
            recall = float((self._some(x[judges], neighbors, judges)[0] >= true[:, -1:] - 1e-6).float().mean())
            if recall >= RECALL or self.index.nprobe >= self.index.nlist:
                return recall
            self.index.nprobe *= 2


def _parts(rows: Tensor) -> list[tuple[int, Tensor]]:
    return [(start, rows[start : start + PART]) for start in range(0, len(rows), PART)]
