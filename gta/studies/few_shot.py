"""The few-shot table: some labelled images a class beside the unlabelled ones.

Labelled images are those of `gta.data.tasks.few_shot`, drawn by the seed. They enter TransCLIP-FS and GTA-CLIP-FS with the weight gamma,
which validation images choose, and GTA-CLIP-FS's adaptation with their true class.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from gta.affinity import Rows, graph_of
from gta.data import tasks
from gta.encoders.images import Images, load_images
from gta.released import graphs
from gta.released.solver import GammaInEachIteration
from gta.settings import Settings
from gta.state import Result
from gta.studies.parameters import ONCE, RunParameters
from gta.studies.study import Study
from gta.transduct import select_gamma

# The graph of each row of TransCLIP-FS; None: shots pull their own neighbours. All else is the same, the search for gamma too.
GRAPHS: dict[str, Callable | None] = {"aligned": None, "released": graphs.knn_graph}


class FewShot(RunParameters):
    """Parameters of `notebooks/few_shot.ipynb`. shots: labelled images a class."""

    draws: int = Field(1, ge=1)
    shots: int = Field(ge=1)


@dataclass(frozen=True)
class Shots:
    """What few-shot methods see, on the encoder's device.

    features: of query images (N, d); prior: CLIP's own prediction of them (N, M); images, support and labels: the labelled
    images, their features (S, d) and classes (S,); val_images, val_features and val_labels: the validation images, (V, d), (V,); view: a
    second encoder's features of query and of labelled images, (N, d2) and (S, d2), if there is one.
    """

    features: Tensor
    prior: Tensor
    images: Images
    support: Tensor
    labels: Tensor
    val_images: Images
    val_features: Tensor
    val_labels: Tensor
    view: Rows | None = None

    @classmethod
    def of(cls, study: Study, once: Result, shots: int, store: Path | None = None) -> "Shots":
        """What the methods see, with images drawn by the seed of the settings.

        once: one transduction of the query images; store: where decoded images are kept. Raises ValueError for a dataset
        without images to learn from.
        """
        encoder, device = study.encoder, study.encoder.device
        drawn = tasks.few_shot(study.task.source, shots, study.settings.seed)
        images, val_images = (load_images(part.images, encoder, store=store) for part in drawn)
        support, val_features = (encoder.encode_images(part.pixels) for part in (images, val_images))
        labels, val_labels = (torch.as_tensor(part.labels).long().to(device) for part in drawn)
        of_support = study.seen(drawn[0].images, drawn[0].ids, store)
        view = None if study.view is None or of_support is None else (study.view.to(device), of_support.to(device))
        return cls(once.features.to(device), once.clip.to(device), images, support, labels, val_images, val_features, val_labels, view)

    def transclip(self, graph: Callable | None = None, search: Callable = select_gamma) -> tuple[float, Tensor, float]:
        """TransCLIP-FS: the gamma that validation images choose, z on the CPU, and seconds, the search included.

        graph: as `affinity=` of `gta.loop.run`; search: `select_gamma`, or the released one.
        """
        start = time.perf_counter()
        views = [(self.features, self.support), *([self.view] if self.view else [])]
        affinity = graph_of(views, self.prior, Settings().neighbors, graph)
        second = dict(zip(("view", "support_view"), self.view or (), strict=False))
        judged = (self.support, self.labels, self.val_features, self.val_labels)
        gamma, result = search(self.features, self.prior, *judged, affinity=affinity, **second)
        z = result.assignments.cpu()  # which waits for a GPU
        return gamma, z, time.perf_counter() - start

    @property
    def given(self) -> dict[str, Any]:
        """What GTA-CLIP-FS is given of them: options of `gta.loop.run`."""
        view = {} if self.view is None else {"view": torch.cat(self.view)}
        return {"support": (self.images, self.labels.cpu()), "features": torch.cat([self.features, self.support]), **view}

    def gamma_in_each_iteration(self, search: Callable = select_gamma, affinity: Callable | None = None) -> GammaInEachIteration:
        """For `gamma=` of `gta.loop.run`."""
        return GammaInEachIteration(self.val_images, self.val_labels.cpu(), search, affinity)


def few_shot(study: Study, shots: int, store: Path | None = None) -> dict[str, float]:
    """CLIP, TransCLIP-FS on each graph of `GRAPHS`, and GTA-CLIP-FS, into `study.outcomes`.

    Returns the gammas by row. That of GTA-CLIP-FS is the one chosen on the aligned graph, where the search costs seconds.
    """
    once = study.run(study.first_texts, changes=ONCE)
    study.outcomes[study.baseline] = (once.clip, once.history[0]["seconds_encode"], study.baseline)
    seen = Shots.of(study, once, shots, store)
    gammas = {}
    for variant, graph in GRAPHS.items():
        gammas[f"TransCLIP-FS, {variant}"], z, seconds = seen.transclip(graph, study.preset.search)
        study.outcomes["TransCLIP-FS", variant] = (z, seconds, study.baseline)
    gammas["GTA-CLIP-FS"] = gammas["TransCLIP-FS, aligned"]
    options = {"changes": {"gamma": gammas["GTA-CLIP-FS"]}, **seen.given}
    if study.preset.gamma_in_each_iteration:
        options["gamma"] = seen.gamma_in_each_iteration(study.preset.search, study.preset.few_shot.get("affinity"))
    study.run_draws("GTA-CLIP-FS", "", study.static, study.llm, **options)
    return gammas
