"""Why adapt helps or hurts: how many of the images that it learns from are what it takes them for. For explanation alone.

Adapt learns from the most confident images of each class (`gta.adapt.confident_images`). If they are of another class, it learns that
mistake. Nothing is chosen from this module: it looks at labels of query images after the run.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gta.adapt import confident_images
from gta.labels import answer
from gta.scores import results
from gta.state import State

ITERATION = ["iteration", "accuracy", "precision", "missing", "largest", "changed", "confidence", "loss", "fall"]
CLASS = ["iteration", "class", "images", "labelled", "right", "precision", "share"]


def by_iteration(
    task_name: str, states: Iterable[State], history: Sequence[Mapping[str, Any]], count: int, key: Callable[[int], bytes]
) -> pd.DataFrame:
    """One line for each iteration, in the columns `ITERATION`; shares in %.

    precision: of the confident images, each counted once for every class that chose it, how many are of that class; missing: classes of
    which no confident image truly is; largest: the share of the images in the largest class; changed, confidence, loss and fall are those
    of the history: of labels since the iteration before, the mean of the largest z, the mean loss of adapt, and by how much the pass made
    the loss of its first batch fall. The last iteration does not adapt: its loss is NaN.

    states, history: of one run, as `gta.state.Result.trail` and `history` give them; count: confident images of a class; key: from a row
    to the hash of its image, as adapt ranks equals.
    """
    lines = []
    for state, step in zip(states, history, strict=True):
        chosen, labels = _chosen(state, count, key), _labels(task_name, state)
        right = chosen & (labels[:, None] == np.arange(chosen.shape[1]))
        sizes = np.bincount(answer(state.z).numpy(), minlength=chosen.shape[1])
        line = {"iteration": state.iteration, "accuracy": 100 * results.correct(task_name, state.z).mean()}
        line |= {
            "precision": 100 * right.sum() / chosen.sum(),
            "missing": _missing(chosen, labels),
            "largest": 100 * sizes.max() / sizes.sum(),
        }
        lines.append(line | {"changed": _percent(step["changed"]), "confidence": 100 * step["confidence"]})
        lines[-1] |= {name: np.nan if step[name] is None else step[name] for name in ("loss", "fall")}
    return pd.DataFrame(lines, columns=ITERATION)


def by_class(task_name: str, states: Iterable[State], class_names: Sequence[str], count: int, key: Callable[[int], bytes]) -> pd.DataFrame:
    """One line for each class and iteration, in the columns `CLASS`.

    images: of the class; labelled: images that got it as their label; right: of the class's images, the % that did; precision: of the
    images that are confident of the class, the % that are of it; share: of all confident images, each counted once, the % that truly are
    of the class. right is NaN for a class without an image. The other arguments are those of `by_iteration`.
    """
    lines = []
    for state in states:
        chosen, labels, said = _chosen(state, count, key), _labels(task_name, state), answer(state.z).numpy()
        once = chosen.any(1)
        for j, name in enumerate(class_names):
            of = labels == j
            line = {"iteration": state.iteration, "class": name, "images": of.sum(), "labelled": (said == j).sum()}
            line["right"] = 100 * (said[of] == j).mean() if of.any() else np.nan
            line |= {"precision": 100 * of[chosen[:, j]].mean(), "share": 100 * of[once].mean()}
            lines.append(line)
    return pd.DataFrame(lines, columns=CLASS)


def _chosen(state: State, count: int, key: Callable[[int], bytes]) -> np.ndarray:
    """Which images are confident of which class, bool (N, M)."""
    logits = state.tensors["z"]["logits"]
    selection = confident_images(logits, count, key)
    chosen = np.zeros(logits.shape, dtype=bool)
    chosen[selection.images.numpy()] = selection.classes.numpy()
    return chosen


def _labels(task_name: str, state: State) -> np.ndarray:
    return results.truth(task_name, state.z)[0]


def _missing(chosen: np.ndarray, labels: np.ndarray) -> int:
    return chosen.shape[1] - len(set(labels[chosen.any(1)].tolist()) - {-1})


def _percent(share: float | None) -> float:
    return np.nan if share is None else 100 * share
