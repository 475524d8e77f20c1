"""SuS-X: a support set from class names alone, and TIP-X, the classifier that uses it (ICCV 2023, arXiv 2211.16198, section 3).

For each class, SuS-LC takes the images of an unlabelled pool that are nearest to the class texts; SuS-SD takes images from a generator.
TIP-X adds a term to Tip-Adapter, the similarity of the image-text distributions of a test image and a support image:

    logits = CLIP's logits + alpha A L + gamma psi(-K) L,    K_ij = KL( softmax(f_i W^T / t) || softmax(F_j W^T / t) )

psi maps -K linearly onto the range of the cache similarities A = exp(-beta (1 - f F^T)) of the given test images. The released code maps
K onto the range of the cosines and takes the negative, so only the range differs.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gta import names
from gta.affinity import nearest
from gta.data import folders
from gta.peers.cache import affinity, best, one_hot, tip_adapter

TEMPERATURE = 0.5
ALPHA, BETA, GAMMA = 1.0, 5.5, 1.0  # without a search: Tip-Adapter's values, and equal weights of KL term and cache
PER_CLASS = 16
ALPHAS, BETAS, GAMMAS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0), (1.0, 2.0, 3.5, 5.5, 8.0, 12.0), (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0)


def retrieve(pool: Tensor, text_features: Sequence[Tensor], per_class: int = PER_CLASS) -> tuple[Tensor, Tensor]:
    """SuS-LC: the images of a pool nearest to the texts of each class. Returns row numbers (S,) and classes (S,).

    pool: (P, d) unit rows; text_features: M tensors (n_j, d), unit rows, of one "photo" prompt or of CuPL's sentences. The texts of a
    class contribute equal numbers of its `per_class` images. An image is used once in a class, but several classes may use it.
    """
    rows: list[int] = []
    classes: list[int] = []
    for label, texts in enumerate(text_features):
        ranked = nearest(texts, pool, per_class)[1]
        # First the nearest image of every text, then the second nearest of every text, until there are enough.
        taken = list(dict.fromkeys(ranked.T.flatten().tolist()))[:per_class]
        rows += taken
        classes += [label] * len(taken)
    return torch.tensor(rows), torch.tensor(classes)


def generated(folder: Path, class_names: Sequence[str]) -> tuple[list[Path], Tensor]:
    """SuS-SD: generated images and their classes (S,). Each class has one sub-folder, with `_` for a space.

    Raises ValueError for a class without images, or a sub-folder that is no class.
    """
    known = {name.replace(" ", "_"): label for label, name in enumerate(class_names)}
    files, _ = folders.classes(Path(folder))
    found = {name for _, name in files}
    for name in sorted(found - known.keys()):
        raise ValueError(f"{folder}: the sub-folder {name!r} is no class{names.nearest(name, known)}")
    for name in sorted(known.keys() - found):
        raise ValueError(f"{folder}: no image of the class {name!r}; a support set needs some of each")
    return [file for file, _ in files], torch.tensor([known[name] for _, name in files])


def tip_x(
    clip: Tensor,
    features: Tensor,
    keys: Tensor,
    labels: Tensor,
    classes: Tensor,
    *,
    alpha: float = ALPHA,
    beta: float = BETA,
    gamma: float = GAMMA,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """Logits (N, M). clip: CLIP's logits (N, M); features: (N, d), keys: (S, d), classes: (M, d), unit rows; labels: (S,)."""
    logits = tip_adapter(clip, features, keys, labels, alpha=alpha, beta=beta)
    if gamma:
        alike = divergences(features, keys, classes, temperature).neg_()
        logits = logits + gamma * rescaled(alike, affinity(features, keys, beta)) @ one_hot(labels, clip)
    return logits


def search(clip: Tensor, features: Tensor, keys: Tensor, labels: Tensor, classes: Tensor, truth: Tensor) -> dict[str, float]:
    """The best alpha, beta, gamma of `tip_x` on V validation images: CLIP's logits (V, M), features (V, d), classes `truth` (V,)."""

    def logits(**values: float) -> Tensor:
        return tip_x(clip, features, keys, labels, classes, **values)

    start = {"alpha": ALPHA, "beta": BETA, "gamma": GAMMA}
    return best(logits, truth, start, alpha=ALPHAS, beta=BETAS, gamma=GAMMAS)


def divergences(features: Tensor, keys: Tensor, classes: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """K, (N, S): the KL divergence from an image's distribution over class texts to a support image's, by two matrix products."""
    of_images = (features @ classes.T / temperature).log_softmax(1)
    of_support = (keys @ classes.T / temperature).log_softmax(1)
    probability = of_images.exp()
    return (probability * of_images).sum(1, keepdim=True) - probability @ of_support.T


def rescaled(values: Tensor, like: Tensor) -> Tensor:
    """Map `values` linearly from their range onto the range of `like`. If they are all equal, each becomes the middle of that range."""
    low, high = values.amin(), values.amax()
    if low == high:
        return torch.full_like(values, float(like.amin() + like.amax()) / 2)
    return (values - low) / (high - low) * (like.amax() - like.amin()) + like.amin()
