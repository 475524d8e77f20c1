"""Tip-Adapter and Tip-Adapter-F: labelled images as a cache beside CLIP (ECCV 2022, arXiv 2207.09519, equations 5 to 8).

    logits = CLIP's logits + alpha exp(-beta (1 - f F^T)) L

F are the features of the support images, L their one-hot classes. Tip-Adapter-F learns F by cross-entropy from that start.
alpha and beta are the paper's or those best on validation images; the released selection of the epoch and of both on the test
set is left out: here the last epoch counts.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

ALPHA, BETA = 1.0, 5.5  # the paper's
EPOCHS, RATE, BATCH = 20, 1e-3, 256
# The released grid spans the same; the paper's curves are flat between these.
ALPHAS = tuple(round(0.1 + k * 2.9 / 20, 3) for k in range(20))
BETAS = tuple(round(1 + k * 6 / 40, 3) for k in range(40))


def affinity(features: Tensor, keys: Tensor, beta: float) -> Tensor:
    """A = exp(-beta (1 - f F^T)), (N, S), of unit rows (N, d) and (S, d)."""
    return (-beta * (1 - features @ keys.T)).exp()


def keys_of(views: Tensor) -> Tensor:
    """Cache keys (S, d), unit rows, from features (V, S, d) of V augmented views: their mean, as in the released code."""
    return F.normalize(views.mean(0), dim=1)


def tip_adapter(clip: Tensor, features: Tensor, keys: Tensor, labels: Tensor, *, alpha: float = ALPHA, beta: float = BETA) -> Tensor:
    """Logits (N, M): those of CLIP, `clip` (N, M), and alpha times the cache's.

    features: (N, d), keys: (S, d), unit rows; labels: (S,) integers in 0..M-1.
    """
    return clip + alpha * affinity(features, keys, beta) @ one_hot(labels, clip)


def fit_keys(
    scale: float,
    classes: Tensor,
    views: Tensor,
    labels: Tensor,
    *,
    seed: int,
    alpha: float = ALPHA,
    beta: float = BETA,
    epochs: int = EPOCHS,
) -> Tensor:
    """Keys (S, d) of Tip-Adapter-F: AdamW at 1e-3 with a cosine over `epochs` passes, batches of 256, an epoch a view.

    scale: CLIP's; classes: its class features (M, d); views: (V, S, d) features of augmented support images.
    """
    keys = keys_of(views).clone().requires_grad_()
    optimizer = torch.optim.AdamW([keys], lr=RATE, eps=1e-4)
    steps = -(-views.shape[1] // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    chance = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        for batch in torch.randperm(views.shape[1], generator=chance).to(labels.device).split(BATCH):
            x = views[epoch % len(views), batch]
            logits = tip_adapter(scale * x @ classes.T, x, keys, labels, alpha=alpha, beta=beta)
            optimizer.zero_grad()
            F.cross_entropy(logits, labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return keys.detach()


def search(clip: Tensor, features: Tensor, keys: Tensor, labels: Tensor, truth: Tensor) -> dict[str, float]:
    """alpha and beta of `tip_adapter` for validation images, of CLIP's logits (V, M), features (V, d) and classes `truth` (V,)."""

    def logits(**values: float) -> Tensor:
        return tip_adapter(clip, features, keys, labels, **values)

    return best(logits, truth, {"alpha": ALPHA, "beta": BETA}, alpha=ALPHAS, beta=BETAS)


def best(logits: Callable[..., Tensor], labels: Tensor, start: Mapping[str, float], **grid: Iterable[float]) -> dict[str, float]:
    """The values of a grid with which most validation images are right, or `start`, the paper's, where none is better than it.

    logits: from one value of each name in `grid` to (V, M); labels: (V,) of the validation images. Few of them leave many
    values equal, of which the paper's, then the first, is taken.
    """
    candidates = [dict(start), *(dict(zip(grid, values, strict=True)) for values in product(*grid.values()))]
    right = [int((logits(**values).argmax(1) == labels).sum()) for values in candidates]
    return candidates[right.index(max(right))]


def one_hot(labels: Tensor, like: Tensor) -> Tensor:
    """L, (S, M), in the dtype of `like` (N, M)."""
    return F.one_hot(labels, like.shape[1]).to(like)
