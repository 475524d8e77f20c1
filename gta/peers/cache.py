"""Tip-Adapter and Tip-Adapter-F: labelled images as a cache beside CLIP (ECCV 2022, arXiv 2207.09519, equations 5 to 8).

    logits = CLIP's logits + alpha exp(-beta (1 - f F^T)) L

F are the features of the support images, L their one-hot classes. Tip-Adapter-F starts from F and learns it by cross-entropy. alpha
and beta are the paper's, or the best on validation images. The released code selects the epoch, alpha and beta on the test set; here
the last epoch is used instead.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

ALPHA, BETA = 1.0, 5.5  # the paper's
EPOCHS, RATE, BATCH = 20, 1e-3, 256
# The released grid has the same range. The paper's curves are flat between these values.
ALPHAS = tuple(round(0.1 + k * 2.9 / 20, 3) for k in range(20))
BETAS = tuple(round(1 + k * 6 / 40, 3) for k in range(40))


def affinity(features: Tensor, keys: Tensor, beta: float) -> Tensor:
    """A = exp(-beta (1 - f F^T)), (N, S), of unit rows (N, d) and (S, d)."""
    return (-beta * (1 - features @ keys.T)).exp()


def keys_of(views: Tensor) -> Tensor:
    """Cache keys (S, d), unit rows: the mean of the features (V, S, d) of V augmented views, as in the released code."""
    return F.normalize(views.mean(0), dim=1)


def tip_adapter(clip: Tensor, features: Tensor, keys: Tensor, labels: Tensor, *, alpha: float = ALPHA, beta: float = BETA) -> Tensor:
    """Logits (N, M): the sum of CLIP's logits and alpha times those of the cache.

    clip: CLIP's logits (N, M); features: (N, d), keys: (S, d), unit rows; labels: (S,) integers in 0..M-1.
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
    """Learn the keys (S, d) of Tip-Adapter-F: AdamW at 1e-3 with a cosine schedule over `epochs`, batches of 256, one view for each epoch.

    scale: CLIP's logit scale; classes: class features (M, d); views: features (V, S, d) of augmented support images.
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
    """The best alpha and beta of `tip_adapter` on V validation images: CLIP's logits (V, M), features (V, d), classes `truth` (V,)."""

    def logits(**values: float) -> Tensor:
        return tip_adapter(clip, features, keys, labels, **values)

    return best(logits, truth, {"alpha": ALPHA, "beta": BETA}, alpha=ALPHAS, beta=BETAS)


def best(logits: Callable[..., Tensor], labels: Tensor, start: Mapping[str, float], **grid: Iterable[float]) -> dict[str, float]:
    """The values of a grid with the most correct validation images, or `start`, the paper's values, if no others are better.

    logits: from one value of each name in `grid` to (V, M); labels: (V,) of the validation images. With few images many values are
    equally good; then the paper's are chosen, else the first ones.
    """
    candidates = [dict(start), *(dict(zip(grid, values, strict=True)) for values in product(*grid.values()))]
    right = [int((logits(**values).argmax(1) == labels).sum()) for values in candidates]
    return candidates[right.index(max(right))]


def one_hot(labels: Tensor, like: Tensor) -> Tensor:
    """One-hot classes L, (S, M), in the dtype of `like` (N, M)."""
    return F.one_hot(labels, like.shape[1]).to(like)
