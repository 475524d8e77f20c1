"""SuS-X: a support set from class names alone, and TIP-X, which reads it (ICCV 2023, arXiv 2211.16198, section 3).

SuS-LC takes for each class the images of an unlabelled pool that are nearest to its texts; SuS-SD takes images that a generator
drew for it. TIP-X adds to Tip-Adapter how alike the image-text distributions of a test and a support image are:

    logits = CLIP's logits + alpha A L + gamma psi(-K) L,    K_ij = KL( softmax(f_i W^T / t) || softmax(F_j W^T / t) )

psi maps -K linearly onto the range of the cache similarities A = exp(-beta (1 - f F^T)), over the test images at hand.
The released code maps K onto the range of the cosines and takes the negative: the same but for that range.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gta import names
from gta.affinity import nearest
from gta.files import IMAGE_SUFFIXES
from gta.peers.cache import affinity, best, one_hot, tip_adapter

TEMPERATURE = 0.5
ALPHA, BETA, GAMMA = 1.0, 5.5, 1.0  # where there is nothing to search on: Tip-Adapter's, and the KL term as strong as the cache
PER_CLASS = 16
ALPHAS, BETAS, GAMMAS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0), (1.0, 2.0, 3.5, 5.5, 8.0, 12.0), (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0)


def retrieve(pool: Tensor, text_features: Sequence[Tensor], per_class: int = PER_CLASS) -> tuple[Tensor, Tensor]:
    """SuS-LC: for each class the images of a pool nearest to its texts, as row numbers (S,) and classes (S,).

    pool: (P, d) unit rows; text_features: M tensors (n_j, d), unit rows: one "photo" prompt, or CuPL's sentences, which share
    `per_class` equally. An image is taken once by a class, but may be taken by several.
    """
    rows: list[int] = []
    classes: list[int] = []
    for label, texts in enumerate(text_features):
        ranked = nearest(texts, pool, per_class)[1]
        # The nearest of every text, then the second nearest of every text, until there are enough.
        taken = list(dict.fromkeys(ranked.T.flatten().tolist()))[:per_class]
        rows += taken
        classes += [label] * len(taken)
    return torch.tensor(rows), torch.tensor(classes)


def generated(folder: Path, class_names: Sequence[str]) -> tuple[list[Path], Tensor]:
    """SuS-SD: images that a generator wrote to one sub-folder a class, `_` for a space, and their classes (S,).

    Raises ValueError for a class without images, or a sub-folder that is no class.
    """
    known = {name.replace(" ", "_"): label for label, name in enumerate(class_names)}
    files = sorted(file for file in Path(folder).glob("*/*") if file.suffix.lower() in IMAGE_SUFFIXES)
    found = {file.parent.name for file in files}
    for name in sorted(found - known.keys()):
        raise ValueError(f"{folder}: the sub-folder {name!r} is no class{names.nearest(name, known)}")
    for name in sorted(known.keys() - found):
        raise ValueError(f"{folder}: no image of the class {name!r}; a support set needs some of each")
    return files, torch.tensor([known[file.parent.name] for file in files])


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
    """Logits (N, M). clip: CLIP's, (N, M); features: (N, d), keys: (S, d), classes: (M, d), unit rows; labels: (S,)."""
    logits = tip_adapter(clip, features, keys, labels, alpha=alpha, beta=beta)
    if gamma:
        alike = divergences(features, keys, classes, temperature).neg_()
        logits = logits + gamma * rescaled(alike, affinity(features, keys, beta)) @ one_hot(labels, clip)
    return logits


def search(clip: Tensor, features: Tensor, keys: Tensor, labels: Tensor, classes: Tensor, truth: Tensor) -> dict[str, float]:
    """alpha, beta and gamma of `tip_x` for validation images, of CLIP's logits (V, M), features (V, d) and classes `truth` (V,)."""

    def logits(**values: float) -> Tensor:
        return tip_x(clip, features, keys, labels, classes, **values)

    start = {"alpha": ALPHA, "beta": BETA, "gamma": GAMMA}
    return best(logits, truth, start, alpha=ALPHAS, beta=BETAS, gamma=GAMMAS)


def divergences(features: Tensor, keys: Tensor, classes: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """K, (N, S): KL from each image's distribution over class texts to each support image's, by two matrix products."""
    of_images = (features @ classes.T / temperature).log_softmax(1)
    of_support = (keys @ classes.T / temperature).log_softmax(1)
    probability = of_images.exp()
    return (probability * of_images).sum(1, keepdim=True) - probability @ of_support.T


def rescaled(values: Tensor, like: Tensor) -> Tensor:
    """`values` mapped linearly from their own range onto that of `like`; all its middle where they do not differ."""
    low, high = values.amin(), values.amax()
    if low == high:
        return torch.full_like(values, float(like.amin() + like.amax()) / 2)
    return (values - low) / (high - low) * (like.amax() - like.amin()) + like.amin()
