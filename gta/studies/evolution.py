"""How an encoder's image space and text space move over the iterations of a run: measures, and maps. No label is used; `with_scores`
alone adds what rows say, which were scored elsewhere.

    structure   Spearman correlation, over the pairs of classes, of the cosines between image prototypes with those between
                text prototypes: representational similarity analysis (Kriegeskorte et al., Front. Syst. Neurosci. 2008)
    own, other  mean cosine of a class's image prototype with its own text prototype, and with those of the other classes
    gap         distance between the centres of the two spaces, the modality gap (Liang et al., arXiv 2203.02053)

An image prototype is the mean of all images weighted by z, a text prototype the mean of the texts of a class, both of unit
norm. The centre of the texts is the mean over classes of their means, so that a class with more texts weighs no more.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.manifold import TSNE
from torch import Tensor
from torch.nn import functional as F

from gta.attributes import Bank
from gta.generate import confused_pairs
from gta.names import nearest
from gta.scores.rows import Row
from gta.state import Result, State

ITERATE = "iterate "  # begins the variant of the row of an iterate


@dataclass(frozen=True)
class Spaces:
    """What an iteration inferred z from, unit rows in float64: images (N, d), texts M tensors (n_j, d), z (N, M)."""

    iteration: int
    images: Tensor
    texts: tuple[Tensor, ...]
    z: Tensor

    @classmethod
    def of(cls, state: State) -> "Spaces":
        """Of the query images, and of the texts as the iteration saw them."""
        features, row = state.tensors["texts"]["texts"].double(), {text: i for i, text in enumerate(state.texts)}
        texts = tuple(features[[row[text] for text in of_class]] for of_class in state.bank.at(state.iteration).texts)
        return cls(state.iteration, state.tensors["features"]["images"][: len(state.z)].double(), texts, state.z.double())

    @property
    def text_means(self) -> Tensor:
        """Of each class: (M, d)."""
        return torch.stack([texts.mean(0) for texts in self.texts])

    @property
    def prototypes(self) -> tuple[Tensor, Tensor]:
        """Of images and of texts, each (M, d); NaN for the images of a class that z gives none."""
        return F.normalize(self.z.T @ self.images / self.z.sum(0)[:, None]), F.normalize(self.text_means)

    def measures(self) -> dict[str, float]:
        """structure, own, other and gap; classes without an image take no part, and fewer than three have no structure."""
        images, texts = self.prototypes
        across, own = images @ texts.T, torch.eye(len(texts), dtype=torch.bool)
        a, b = torch.triu_indices(len(texts), len(texts), offset=1)
        pairs = pd.DataFrame({"images": (images @ images.T)[a, b], "texts": (texts @ texts.T)[a, b]})
        return {
            "structure": float(pairs.corr("spearman").to_numpy()[0, 1]),
            "own": float(across[own].nanmean()),
            "other": float(across[~own].nanmean()),
            "gap": float((self.images.mean(0) - self.text_means.mean(0)).norm()),
        }


def table(states: Iterable[State]) -> pd.DataFrame:
    """The measures, a row an iteration."""
    rows = [{"iteration": state.iteration} | Spaces.of(state).measures() for state in states]
    return pd.DataFrame(rows).set_index("iteration")


def with_scores(measures: pd.DataFrame, rows: Iterable[Row]) -> pd.DataFrame:
    """The measures of `table` with `ece`, in %, and `brier` of each iterate, from the rows of `iterates`."""
    found = {int(row.variant.removeprefix(ITERATE)): (row.ece, row.brier) for row in rows if row.variant.startswith(ITERATE)}
    return measures.join(pd.DataFrame.from_dict(found, orient="index", columns=["ece", "brier"]))


def views(states: Iterable[State], iterations: int, count: int = 4) -> list[Spaces]:
    """The spaces of `count` of all `iterations`, from the first to the last, evenly spread; of all where there are no more."""
    shown = np.linspace(0, iterations - 1, count).round()
    return [Spaces.of(state) for state in states if state.iteration in shown]


def pairs_to_follow(named: Sequence[tuple[str, str]], bank: Bank, clip: Tensor, most: int = 3) -> list[tuple[int, int]]:
    """The named pairs as class indices; where none is named, the asked pairs with the most images;
    where none was asked either, the pairs that are most often the two likeliest classes of an image by `clip`, (N, M).

    Raises ValueError for a name that is no class, a class paired with itself, or a single class.
    """
    for name in (name for pair in named for name in pair):
        if name not in bank.class_names:
            raise ValueError(f"pairs: {name!r} is no class{nearest(name, bank.class_names)}")
    found = [(bank.class_names.index(a), bank.class_names.index(b)) for a, b in named]
    asked = [(a, b) for _, a, b, _ in sorted(bank.asked, key=lambda pair: -pair[3])]
    found = found or (asked or [(a, b) for a, b, _ in confused_pairs(clip, margin=1)])[:most]
    if not found or any(a == b for a, b in found):
        raise ValueError("pairs: each needs two classes")
    return found


def pair_map(views: Sequence[Spaces], pair: tuple[int, int], most: int = 300) -> pd.DataFrame:
    """t-SNE of the images and the texts of two classes, at each iteration of `views`: a row a point, with iteration, kind
    (image or text), label (of an image by the z of that iteration, of a text its class), x and y.

    The images are those that the last view gives to one of the two, at most `most` of them, evenly spread. Both kinds are
    centred first, each by its own centre, else the gap between them would be all that one sees. A map may be turned and
    mirrored at will: each is turned so that its images lie nearest to where they lay in the map before.
    """
    rows = torch.isin(views[-1].z.argmax(1), torch.tensor(pair)).nonzero().flatten()
    rows = rows[torch.linspace(0, len(rows) - 1, min(most, len(rows))).long()]
    maps, before = [], None
    for view in views:
        images, texts = view.images[rows] - view.images.mean(0), torch.cat([view.texts[j] for j in pair]) - view.text_means.mean(0)
        placed = _tsne(F.normalize(torch.cat([images, texts])).numpy(), len(rows), before)
        before = placed[: len(rows)]
        labels = [*view.z[rows].argmax(1).tolist(), *(j for j in pair for _ in view.texts[j])]
        kinds = ["image"] * len(images) + ["text"] * len(texts)
        maps.append(pd.DataFrame({"iteration": view.iteration, "kind": kinds, "label": labels, "x": placed[:, 0], "y": placed[:, 1]}))
    return pd.concat(maps, ignore_index=True)


def _tsne(points: np.ndarray, images: int, before: np.ndarray | None) -> np.ndarray:
    """(n, 2), with its first `images` points around zero, turned to `before` (images, 2)."""
    init = "pca" if np.ptp(points, axis=0).any() else "random"  # equal points have no principal axis: scikit-learn would crash
    placed = TSNE(perplexity=min(30, (len(points) - 1) / 3), init=init, random_state=0).fit_transform(points).astype(float)
    if not images:
        return placed
    placed -= placed[:images].mean(0)
    return placed if before is None else placed @ turn(placed[:images], before)


def turn(points: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """The rotation or reflection R (2, 2) for which `points @ R` is nearest to `onto`, both (n, 2): orthogonal Procrustes."""
    left, _, right = np.linalg.svd(points.T @ onto)
    return left @ right


def iterates(result: Result) -> dict:
    """Outcomes, as in `gta.studies.study.Study`, of one run that kept its trail: CLIP as it began; GTA-CLIP, the last iterate; every
    iterate."""
    baseline, seconds = ("CLIP+attributes", ""), 0.0
    encoding = result.history[0]["seconds_encode"]
    scored = {baseline: (result.clip, encoding, baseline), ("GTA-CLIP", ""): (result.assignments, result.seconds, baseline)}
    for state, step in zip(result.trail, result.history, strict=True):
        seconds += sum(value for name, value in step.items() if name.startswith("seconds_"))
        scored["GTA-CLIP", f"{ITERATE}{state.iteration:02}"] = (state.z, seconds, baseline)
    return scored
