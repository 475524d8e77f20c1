"""The confusions table: do the pairs that the method finds confused, without labels, confuse a classifier that has learnt from labels?

An analysis after the fact: the labels of query images rank the classifier's pairs, and nothing that labels an image sees it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from gta.data import tasks
from gta.files import ROOT, write_atomically
from gta.generate import Pair, confused_pairs
from gta.scores import results
from gta.studies.parameters import RunParameters
from gta.studies.study import Study
from gta.studies.zero_shot import CLASSIFIER, classifier

MOST = 10  # pairs of a method that are looked at, as in the paper
ALL = 10**9  # more labelled images a class than there are


class Confusions(RunParameters):
    """Parameters of `notebooks/confusions.ipynb`. shots: labelled images a class that the classifier learns from; None: all there are."""

    shots: int | None = Field(ge=1)


def confusions(study: Study, shots: int | None = None) -> dict[str, Tensor]:
    """CLIP, TransCLIP, GTA-CLIP and the classifier into `study.outcomes`. Returns z (N, M) of the three methods, by name."""
    study.add_first()
    study.add("GTA-CLIP", "", study.run(study.static, study.llm))
    found = {method: z for (method, _), (z, _, _) in study.outcomes.items()}
    labelled = None
    if not study.task.facts:  # of an embedded dataset all labelled images are at hand
        support, _ = tasks.few_shot(study.task.source, shots or ALL, study.settings.seed)
        labelled = (support.images, support.labels)
    study.outcomes |= classifier(study.task, study.encoder, labelled, study.images)
    return found


def ranked(counts: np.ndarray, mass: np.ndarray) -> list[tuple[int, int]]:
    """All pairs of classes (a, b), a < b, the most confused first: by the images of either class that got the other as their label,
    then by the probability that the other class got. counts, mass: (M, M), of `gta.scores.results.confusion_matrix`."""
    both = counts + counts.T, mass + mass.T
    pairs = [(a, b) for a in range(len(counts)) for b in range(a + 1, len(counts))]
    return sorted(pairs, key=lambda pair: (-both[0][pair], -both[1][pair], pair))


def compare(pairs: Sequence[Pair], counts: np.ndarray, mass: np.ndarray, class_names: Sequence[str]) -> pd.DataFrame:
    """A line for each of a method's MOST most confused pairs: how many images it is undecided about, the place of the pair among all
    pairs of the classifier (1 is the most confused), its errors there, and how many pairs there are."""
    places = {pair: place for place, pair in enumerate(ranked(counts, mass), start=1)}
    lines = []
    for rank, (a, b, images) in enumerate(pairs[:MOST], start=1):
        line = {"rank": rank, "first": class_names[a], "second": class_names[b], "images": images, "place": places[a, b]}
        lines.append({**line, "errors": int(counts[a, b] + counts[b, a]), "of": len(places)})
    return pd.DataFrame(lines, columns=["rank", "first", "second", "images", "place", "errors", "of"])


def write(study: Study, parameters: Confusions, found: Mapping[str, Tensor]) -> pd.DataFrame:
    """`confused_pairs.csv`: `compare` of each method, with dataset, backbone and seed. Here the labels of query images enter."""
    ((learnt, _, _),) = [outcome for (method, _), outcome in study.outcomes.items() if method == CLASSIFIER]
    hard = F.one_hot(learnt.argmax(1), learnt.shape[1]).double()
    counts, mass = (results.confusion_matrix(study.task.source, z) for z in (hard, learnt))
    frames = []
    for method, z in found.items():
        frame = compare(confused_pairs(z, study.settings.margin), counts, mass, study.task.class_names)
        setting: dict[str, Any] = {
            "dataset": study.task.name,
            "backbone": parameters.named_backbone,
            "seed": parameters.seed,
            "method": method,
        }
        frames.append(frame.assign(**setting)[[*setting, *frame.columns]])
    together = pd.concat(frames, ignore_index=True)
    write_atomically(ROOT / parameters.out / "confused_pairs.csv", together.to_csv(index=False))
    return together
