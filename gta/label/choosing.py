"""Which images a person is asked about next. No label is seen here: only margins and features.

- `random` is what everything is compared with, and what a threshold may be fitted on: each image is as likely as any other.
- `uncertain` takes the smallest margins between the two likeliest classes (Scheffer et al., IDA 2001).
- `diverse` takes k centers: always the image that is farthest from all that were chosen or answered (Sener and Savarese, ICLR 2018,
  arXiv 1708.00489, algorithm 1).
- `both` takes the 10 k smallest margins, clusters them by k-means with the weights 1 - margin, and asks about the image nearest to each
  centre (Zhdanov, arXiv 1901.05954). So k similar images are not asked about at once.
"""

import warnings
from collections.abc import Callable

import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

RANDOM = "random"
CANDIDATES = 10  # times k: of so many uncertain images `both` takes diverse ones


def choose(by: str, count: int, margins: Tensor, features: Tensor, taken: Tensor, seed: int = 0) -> list[int]:
    """The rows of up to `count` images to ask about, none of them taken, in the order in which they are asked.

    by: a key of `STRATEGIES`; margins (N,): between the two largest z of each image, from 0 to 1; features (N, d): unit rows; taken:
    bool (N,), images that are answered already. All images that are left are given where there are no more than `count`.
    """
    free = (~taken).nonzero().flatten()
    if len(free) <= count:
        return free[margins[free].argsort(stable=True)].tolist()
    return STRATEGIES[by](free, count, margins, features.double(), taken, seed)


def _random(free: Tensor, count: int, margins: Tensor, features: Tensor, taken: Tensor, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return free[torch.randperm(len(free), generator=generator)[:count]].tolist()


def _uncertain(free: Tensor, count: int, margins: Tensor, features: Tensor, taken: Tensor, seed: int) -> list[int]:
    return free[margins[free].argsort(stable=True)[:count]].tolist()


def _diverse(free: Tensor, count: int, margins: Tensor, features: Tensor, taken: Tensor, seed: int) -> list[int]:
    """The first, where nothing is answered yet, is the image nearest to the mean."""
    if taken.any():
        nearness = torch.cat([(part @ features[taken].T).amax(1) for part in features.split(4096)])
        chosen = []
    else:
        chosen = [int((features @ features.mean(0)).argmax())]
        nearness = features @ features[chosen[0]]
    gone = taken.clone()
    gone[chosen] = True
    while len(chosen) < count:
        row = int(nearness.masked_fill(gone, torch.inf).argmin())
        chosen.append(row)
        gone[row] = True
        nearness = torch.maximum(nearness, features @ features[row])
    return chosen


def _both(free: Tensor, count: int, margins: Tensor, features: Tensor, taken: Tensor, seed: int) -> list[int]:
    rows = torch.tensor(_uncertain(free, CANDIDATES * count, margins, features, taken, seed))
    x, weights = features[rows].numpy(), (1 - margins[rows]).clamp(min=1e-6).double().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer different images than clusters: the same ones are then asked about
        found = KMeans(count, n_init=3, random_state=seed).fit(x, sample_weight=weights)
    distances, chosen = torch.from_numpy(found.transform(x)), []
    for centre in range(count):
        nearest = int(distances[:, centre].argmin())
        chosen.append(nearest)
        distances[nearest] = torch.inf
    return rows[sorted(chosen)].tolist()


STRATEGIES: dict[str, Callable[..., list[int]]] = {RANDOM: _random, "uncertain": _uncertain, "diverse": _diverse, "both": _both}
